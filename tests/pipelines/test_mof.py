import pytest

from pipelines.mof import read_by_tasks
from qasir.encoding.options import EncodeOptions
from qasir.training.mof.clip_table import clips_of
from tests.qasir.training.mof.made_up import NOUNS, Made
from tests.qasir.training.mof.readers import losing, trouble


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made.in_folder(tmp_path_factory.mktemp("made"))


def clips(made, uri, **options):
    def read(videos, tiling, n_frames):
        return read_by_tasks(videos, tiling, n_frames, **options)

    return clips_of(made.captioned.corpus, str(uri), made.tiling(), 3, read)


@pytest.mark.slow
def test_videos_that_hang_or_kill_their_task_are_left_out_and_named(local_ray, made, tmp_path, caplog):
    """And neither tried for ever nor lost without a word."""
    table = clips(made, tmp_path / "clips.lance", read=trouble, options=EncodeOptions(decode_timeout_s=3.0))
    assert sorted(table.video_ids) == sorted(set(NOUNS) - {"dog", "car"})
    assert "2 of 5 videos cannot be read and are left out" in caplog.text
    assert "dog (timed_out: decoding made no progress for 3.0 s)" in caplog.text
    assert "car (crashed: the process that decodes it dies of SIGSEGV)" in caplog.text


def test_a_video_that_only_its_task_was_lost_of_is_read_alone(local_ray, made, tmp_path, caplog):
    assert sorted(clips(made, tmp_path / "clips.lance", read=losing).video_ids) == sorted(NOUNS)
    assert "cannot be read" not in caplog.text
