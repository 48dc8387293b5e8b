"""One corpus encoded by evenly spaced frames and by keyframes, from one decode, and read alike."""

import io

import numpy as np
import pytest
from PIL import Image

from qasir.app.catalogue import StoredVideo
from qasir.app.cells import stored_picture
from qasir.encoding.encode import plain_stages
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions, EncoderOptions, ReindexOptions
from qasir.encoding.prepare import prepare, source_to_extend
from qasir.encoding.reindex import reindex_corpus
from qasir.encoding.run import run_encoding
from qasir.index.index import Index
from qasir.retrieval.vector_source import StoredVectors
from qasir.video.corpus import list_videos
from tests.videos import brightness, write_video

KEY_S = (0.0, 1.5, 3.0, 4.5)
"""Where the keyframes of the first video are, which lasts 6 s."""


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """(folder of the videos, index of even samples, index of keyframes)."""
    base = tmp_path_factory.mktemp("samplings")
    write_video(base / "videos" / "a.mp4", 60, options={"g": "15", "sc_threshold": "0"})
    corpus = list_videos(str(base / "videos"))
    wanted = {
        name: EncoderOptions(grid=2, image_size=96, precision="fp32", sampling=name)
        for name in ("uniform", "keyframes")
    }
    targets = [Target(*prepare(options, str(base / name), corpus)) for name, options in wanted.items()]
    stages = plain_stages(targets, EncodeOptions(), isolate=False)
    run_encoding(corpus, [target.index for target in targets], stages, EncodeOptions(), job="test")
    return base / "videos", *(Index.open(str(base / name)) for name in wanted)


def times(index, video_id):
    cells = StoredVectors(index.snapshot()).load("cell", [video_id])
    return cells.start_s.tolist(), cells.end_s.tolist()


def shown(index, second):
    """The grey level of the picture stored of a second of the first video."""
    jpeg = stored_picture(index.snapshot(), StoredVideo("a", "a.mp4", "f", 6.0, *[None] * 7), second)
    return np.asarray(Image.open(io.BytesIO(jpeg))).mean()


def test_cells_are_where_their_frames_are_displayed(encoded):
    _, even, keyframes = encoded
    assert times(even, "a") == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert times(keyframes, "a") == (list(KEY_S), [*KEY_S[1:], 6.0])


@pytest.mark.parametrize(
    ("second", "even_frame", "keyframe"), [(0.0, 0, 0), (1.4, 10, 0), (1.5, 10, 15), (5.9, 50, 45)]
)
def test_the_stored_picture_of_a_second_is_the_sample_on_display(encoded, second, even_frame, keyframe):
    _, even, keyframes = encoded
    assert shown(even, second) == pytest.approx(brightness(even_frame), abs=8)
    assert shown(keyframes, second) == pytest.approx(brightness(keyframe), abs=8)


def test_the_sampling_is_said_in_words(encoded):
    _, even, keyframes = encoded
    assert even.spec.sampled == "1 frame a second"
    assert keyframes.spec.sampled == "keyframes, at most 1 a second, and frames between those over 4 s apart"


def test_reindexing_goes_on_by_the_sampling_of_each_index(encoded):
    folder, *indexes = encoded
    write_video(folder / "b.mp4", 25, options={"g": "15", "sc_threshold": "0"})

    def stages(some):
        targets = [Target(index, source_to_extend(index)) for index in some]
        return plain_stages(targets, EncodeOptions(), isolate=False)

    summaries = reindex_corpus(list_videos(str(folder)), indexes, stages, ReindexOptions(), EncodeOptions())
    assert [(done.new, done.unchanged) for done in summaries] == [(1, 1), (1, 1)]
    even, keyframes = (Index.open(index.uri) for index in indexes)
    assert times(even, "b") == ([0.0, 1.0, 2.0], [1.0, 2.0, 2.5])
    assert times(keyframes, "b") == ([0.0, 1.5], [1.5, 2.5])
