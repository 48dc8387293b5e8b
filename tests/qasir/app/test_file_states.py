import shutil
import time
from dataclasses import replace

import pytest

from qasir.app.catalogue import StoredVideo
from qasir.app.file_states import CHANGED, GONE, FileState, FileStates
from qasir.video.lookup import current_fingerprint

VIDEO = StoredVideo("a", "", "f", 1.0, 320, 240, 25.0, "h264", None, None, 0.0)


@pytest.fixture
def files():
    states = FileStates()
    yield states
    states.close()


def test_a_local_file_is_looked_at_whenever_it_is_asked_for(files, tmp_path):
    path = tmp_path / "a.mp4"
    video = replace(VIDEO, uri=str(path), media_offset_s=0.25)
    assert files.of([video]) == [FileState(GONE, 0.25)]
    path.write_bytes(b"any")
    video = replace(video, fingerprint=current_fingerprint(str(path)))
    assert files.of([video, video]) == [FileState(None, 0.25)] * 2
    path.unlink()
    assert files.of([video]) == [FileState(GONE, 0.25)]


def test_a_file_that_changed_is_told_and_shown_and_an_empty_one_is_gone(files, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"any")
    video = replace(VIDEO, uri=str(path), fingerprint=current_fingerprint(str(path)))
    path.write_bytes(b"another")
    (state,) = files.of([video])
    assert (state, state.is_there) == (FileState(CHANGED, 0.0), True)
    (state,) = files.of([replace(video, fingerprint="")])
    assert state.problem is None, "nobody knows which version was indexed"
    path.write_bytes(b"")
    (state,) = files.of([video])
    assert (state, state.is_there) == (FileState(GONE, 0.0), False)
    (state,) = files.of([replace(video, uri=str(tmp_path))])
    assert (state, state.is_there) == (FileState(GONE, 0.0), False)


def test_what_a_players_time_is_comes_from_the_file_where_the_index_does_not_say(files, demo, tmp_path):
    there = sorted((demo / "videos").iterdir())[0]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    paths = [there, broken, tmp_path / "gone.mp4"]
    videos = [
        replace(VIDEO, uri=str(path), fingerprint=current_fingerprint(str(path)), media_offset_s=None) for path in paths
    ]
    assert files.of(videos) == [FileState(None, 0.0), FileState(None, 0.0), FileState(GONE, 0.0)]


def test_what_a_file_did_not_say_is_asked_again_later(files, demo, tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    video = replace(VIDEO, uri=str(path), fingerprint="1-1", media_offset_s=None)
    files.of([video])
    (known,) = files._offsets._known.values()
    assert known[1].result() is None
    monkeypatch.setattr("qasir.app.file_states._KEPT_S", -1.0)
    shutil.copy(sorted((demo / "videos").iterdir())[0], path)
    files.of([video])
    (known,) = files._offsets._known.values()
    assert known[1].result() == 0.0


def test_a_store_that_does_not_answer_holds_nobody_up(files):
    uris = [f"s3://bucket/{n}.mp4?endpoint_override=http%3A%2F%2F127.0.0.1%3A9&region=x" for n in range(40)]
    uris += ["hdfs://nowhere/x.mp4", "s3://", "nothing://x/y"]
    begun = time.monotonic()
    found = files.of([replace(VIDEO, uri=uri) for uri in uris])
    assert time.monotonic() - begun < 10
    assert found == [FileState(None, 0.0)] * len(uris)


def test_what_no_file_can_be_called_is_gone_or_unknown_but_no_error(files):
    for uri in ("", "a\x00b", "/" + "x" * 5000, "file://host/x", "\ud800"):
        assert len(files.of([replace(VIDEO, uri=uri)])) == 1
