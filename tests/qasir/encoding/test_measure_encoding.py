import time

import numpy as np
import pytest

from qasir.encoding.measure_encoding import EncodingTimes, _batches, time_encoding
from qasir.encoding.options import EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.errors import ModelError
from qasir.index.spec import EncoderSpec
from qasir.video.corpus import list_videos
from tests.videos import write_video


def test_each_index_has_times_of_its_model_and_one_model_is_timed_once(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    index, source = prepare(EncoderOptions(), str(tmp_path / "index"), list_videos(str(tmp_path)))
    same = EncoderSpec(**{**vars(index.spec), "fps": 2.0})
    tables = list(time_encoding([source] * 2, [index.spec, same], batch=2, threads=1, under_way=1, most_s=0.2))
    times = EncodingTimes.of(tables, 2)
    assert times.loading_core_s > 0
    assert times.core_s[0] == times.core_s[1]
    assert 3 <= len(times.wall_s[0]) <= 20
    assert all(0 < each < 1 for each in times.wall_s[0])


@pytest.mark.parametrize("under_way", [1, 2])
def test_batches_under_way_at_once_are_timed_from_end_to_end(under_way):
    class Waiting:
        def encode_images(self, pixels, *, grid):
            time.sleep(0.05)

    found = list(_batches(Waiting(), np.zeros((4, 8, 8, 3), np.uint8), None, under_way, 0.3))
    each_s = sum(row["wall_s"] for row in found) / len(found)
    assert each_s == pytest.approx(0.05 / 4 / under_way, rel=0.6)


def test_a_model_that_cannot_be_loaded_says_why(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    index, source = prepare(EncoderOptions(), str(tmp_path / "index"), list_videos(str(tmp_path)))
    wrong = EncoderSpec(**{**vars(index.spec), "image_size": 7, "grid": 1})
    with pytest.raises(ModelError):
        EncodingTimes.of(list(time_encoding([source], [wrong], batch=2, threads=1, under_way=1, most_s=0.1)), 1)
