"""What a walk of a local folder enters and lists."""

import logging
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as fs
import pytest

from qasir.errors import CorpusError
from qasir.files.uris import local_path
from qasir.video.corpus import UNREACHABLE, list_videos
from qasir.video.walk import ENTERED_BEFORE, HIDDEN_FILES, HIDDEN_FOLDERS, NO_FILES

NOBODY = 65534


def write(folder, *names):
    """Files with something in them."""
    for name in names:
        path = Path(folder, os.fsdecode(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(path):
    return [video.video_id for video in list_videos(str(path)).videos]


@pytest.fixture
def open_folder():
    """A folder that a user without rights may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextmanager
def without_rights():
    """Root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_names_that_are_not_utf8_are_listed_and_can_be_opened(tmp_path):
    write(tmp_path, "good.mp4", b"\xff.mp4", b"caf\xe9/100%.mp4", b"\xc3\xa9.mp4")
    corpus = list_videos(str(tmp_path))
    assert [video.video_id for video in corpus.videos] == [r"\xff", r"caf\xe9/100%", "good", "é"]
    assert corpus.videos[0].uri == f"file://{tmp_path}/%FF.mp4"
    assert corpus.videos[2].uri == f"{tmp_path}/good.mp4"
    for video in corpus.videos:
        video.uri.encode()
        assert Path(local_path(video.uri)).read_bytes() == b"x"


def test_a_root_that_is_not_utf8_is_listed_again_as_it_was_written_down(tmp_path):
    write(tmp_path, b"caf\xe9/a.mp4")
    corpus = list_videos(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert corpus.root == corpus.source == f"file://{tmp_path}/caf%E9"
    assert list_videos(corpus.source) == corpus
    assert list_videos(f"file://{tmp_path}") == list_videos(str(tmp_path))


def test_a_name_that_looks_like_the_id_of_another_is_an_error_that_names_both(tmp_path):
    write(tmp_path, b"\xff.mp4", rb"\xff.mp4")
    with pytest.raises(CorpusError, match=r"two videos have the id .*file://.*%FF\.mp4|.*%FF\.mp4 and "):
        list_videos(str(tmp_path))


def test_no_folder_is_entered_twice(tmp_path):
    write(tmp_path, "videos/a.mp4", "videos/z/b.mp4", "other/c.mp4", "other/deep/d.mp4")
    videos = tmp_path / "videos"
    (videos / "a_loop").symlink_to(videos)
    (videos / "z" / "up").symlink_to("..")
    (videos / "before_z").symlink_to(videos / "z")
    (videos / "linked").symlink_to(tmp_path / "other")
    (videos / "linked_deep").symlink_to(tmp_path / "other" / "deep")
    (videos / "itself").symlink_to("itself")
    corpus = list_videos(str(videos))
    assert [video.video_id for video in corpus.videos] == ["a", "linked/c", "linked/deep/d", "z/b"]
    assert corpus.skipped == {ENTERED_BEFORE: 4}
    assert ids(f"{videos}/**/*.mp4") == ["a", "linked/c", "linked/deep/d", "z/b"]


def test_hidden_files_and_folders_are_left_out_counted_and_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "qasir")
    write(tmp_path, "a.mp4", ".b.mp4", ".thumbnails/c.mp4", "d/.e/f.mp4", ".DS_Store")
    corpus = list_videos(str(tmp_path))
    assert [video.video_id for video in corpus.videos] == ["a"]
    assert corpus.skipped == {HIDDEN_FILES: 1, HIDDEN_FOLDERS: 2}
    assert f"{tmp_path}: left out 1 hidden files, 2 hidden folders" in caplog.text
    assert ids(f"{tmp_path}/**/*.mp4") == ["a"]
    assert ids(f"{tmp_path}/d/.e/*.mp4") == ["f"]


def test_what_is_no_file_is_not_opened(tmp_path):
    write(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    corpus = list_videos(str(tmp_path))
    assert [video.video_id for video in corpus.videos] == ["a", "link"]
    assert corpus.skipped == {NO_FILES: 4}


def test_fingerprints_stay_what_they_were(tmp_path):
    write(tmp_path, "a.mp4", "b/c.mkv")
    os.utime(tmp_path / "a.mp4", ns=(1, 1_700_000_000_123_456_789))
    for video in list_videos(str(tmp_path)).videos:
        info = fs.LocalFileSystem().get_file_info(video.uri)
        assert (video.size_bytes, video.fingerprint) == (1, f"{info.size}-{info.mtime_ns}")
    assert list_videos(str(tmp_path)).videos[0].fingerprint == "1-1700000000123456789"


def test_a_folder_that_cannot_be_read_is_an_error_and_not_taken_for_empty(open_folder):
    write(open_folder, "a/a.mp4", "closed/b.mp4")
    (open_folder / "closed").chmod(0)
    with without_rights():
        with pytest.raises(CorpusError, match="cannot read the folder .*closed/: Permission denied; nothing was done"):
            list_videos(str(open_folder))
        assert ids(f"{open_folder}/a*/*.mp4") == ["a/a"]
        with pytest.raises(CorpusError, match="Permission denied: .*/closed/deeper"):
            list_videos(str(open_folder / "closed" / "deeper"))
    (open_folder / "closed").chmod(0o755)


def test_a_file_that_cannot_be_looked_at_stays_in_the_list(open_folder):
    write(open_folder, "a.mp4", "closed/b.mp4")
    (open_folder / "closed").chmod(0o444)  # its names can be read
    with without_rights():
        _, video = list_videos(str(open_folder)).videos
    (open_folder / "closed").chmod(0o755)
    assert (video.video_id, video.fingerprint, video.problem) == ("closed/b", UNREACHABLE, "Permission denied")


def test_a_glob_looks_only_into_folders_that_it_can_match(tmp_path):
    write(tmp_path, "2024/a.mp4", "2024/deep/b.mp4", "2025/c.mp4", "2024/.x/d.mp4")
    assert ids(f"{tmp_path}/2024*/*.mp4") == ["2024/a"]
    assert ids(f"{tmp_path}/*/*.mp4") == ["2024/a", "2025/c"]
    assert ids(f"{tmp_path}/*4/**/*.mp4") == ["2024/a", "2024/deep/b"]
    assert list_videos(f"{tmp_path}/*5/*.mp4").skipped == {}
