"""What goes wrong beneath an index's tables names the index, whatever asks for it; no filter is blamed for it."""

import os
import subprocess

import pytest

from qasir.encoding.encode import encode
from qasir.encoding.options import EncoderOptions
from qasir.errors import QueryError, StorageError
from qasir.index.index import Index
from qasir.index.trouble import storage_error
from tests.indexes import make_index, writing
from tests.videos import write_video

MODEL = EncoderOptions(grid=1, fps=1.0, image_size=96, thumbnails=False)


def cut(uri, table, n_bytes):
    """Every data file of a table, to at most so many bytes."""
    for path in (uri / f"{table}.lance" / "data").glob("*.lance"):
        os.truncate(path, min(n_bytes, path.stat().st_size - 1))


def write(index, change):
    with writing(index) as writer:
        change(writer)


READS = {
    "videos": [
        ("videos", lambda index: index.snapshot().videos()),
        ("a filter", lambda index: index.snapshot().select("duration_s > 1")),
        ("states", lambda index: index.states()),
        ("removing", lambda index: write(index, lambda writer: writer.remove(["v001"]))),
    ],
    "super_images": [
        ("super images", lambda index: index.snapshot().super_images()),
        ("of some videos", lambda index: index.snapshot().super_images(["embedding"], video_ids=["v001"])),
        ("preloading", lambda index: index.snapshot().preload()),
        ("the rule", lambda index: index.snapshot().rule()),
        ("leftovers", lambda index: index.leftovers({"v001": "f"})),
        ("sums", lambda index: index.embedding_sums({"v001": "f"})),
        ("deleting", lambda index: write(index, lambda writer: writer.delete_stale({"v001": "g"}))),
    ],
}


@pytest.mark.parametrize("n_bytes", [0, 100, 10_000])
@pytest.mark.parametrize(
    ("table", "read"),
    [pytest.param(table, read, id=name) for table, reads in READS.items() for name, read in reads],
)
def test_a_data_file_that_is_cut_short_is_an_error_that_names_the_index(tmp_path, table, read, n_bytes):
    index = make_index(tmp_path / "index", [3, 4], commits=2)
    cut(tmp_path / "index", table, n_bytes)
    with pytest.raises(StorageError, match="damaged or missing: .* --repair") as error:
        read(index)
    assert str(error.value).startswith(f"cannot use {index.uri}: ")
    assert "\n" not in str(error.value)
    assert ".rs:" not in str(error.value)


def test_a_data_file_that_is_gone_is_named(tmp_path):
    index = make_index(tmp_path / "index", [3, 4])
    (gone,) = (tmp_path / "index" / "super_images.lance" / "data").glob("*.lance")
    gone.unlink()
    with pytest.raises(StorageError, match=f"cannot use .*index: Not found: .*{gone.name}"):
        index.snapshot().super_images()


@pytest.mark.parametrize(
    "where",
    [
        "no_such > 1", "duration_s >", "n_super_images / 0 > 1", "CAST(video_id AS INT) > 3", "regexp_match(uri, '(')",
        "", "a)",
    ],
)  # fmt: skip
def test_a_filter_is_blamed_for_what_is_wrong_with_it(tmp_path, where):
    index = make_index(tmp_path / "index", [3])
    with pytest.raises(QueryError, match="is not a SQL condition") as error:
        index.snapshot().select(where)
    assert "\n" not in str(error.value)
    assert ".rs:" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("LanceError(IO): No space left on device (os error 28)"), "the disk is full"),
        (OSError("LanceError(IO): Permission denied (os error 13)"), "change its permissions"),
        (OSError("LanceError(IO): File too large (os error 27)"), "write it elsewhere"),
        (ValueError("LanceError(IO): Generic S3 error: Client error with status 403 Forbidden"), "check credentials"),
        (ValueError("LanceError(IO): Generic S3 error: Server error with status 503"), "try again"),
        (OSError("LanceError(IO): Generic GCS error: error sending request"), "check the network"),
    ],
)
def test_the_error_says_what_to_do(error, advice):
    assert advice in str(storage_error("s3://bucket/index", error))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """A file that takes what is left of its file system."""
    path, free = folder / "filling", os.statvfs(folder)
    path.write_bytes(bytes(free.f_bavail * free.f_bsize))
    return path


def test_a_full_disk_ends_encoding_in_one_line_and_the_rest_is_done_when_there_is_room(small_disk, tmp_path):
    videos, index = tmp_path / "videos", small_disk / "index"
    write_video(videos / "a.mp4", 20)
    encode(videos, index, model=MODEL, isolate=False)
    write_video(videos / "b.mp4", 20)
    filling = fill(small_disk)
    with pytest.raises(OSError, match="No space left on device"):
        encode(videos, index, model=MODEL, isolate=False)
    opened = Index.open(str(index))
    with (
        pytest.raises(StorageError, match=f"cannot use {index}: .*; the disk is full: make room"),
        writing(opened) as writer,
    ):
        writer.remove(["a"])
    filling.unlink()
    assert opened.snapshot().encoded()["video_id"].to_pylist() == ["a"]
    summary = encode(videos, index, model=MODEL, isolate=False)
    assert (summary.encoded, summary.unchanged) == (1, 1)


def test_a_read_only_index_is_read_and_writing_it_is_an_error(small_disk):
    index = make_index(small_disk / "index", [3, 4])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert len(index.snapshot().super_images()) == 7
    with pytest.raises(StorageError, match=f"cannot use {index.uri}: Read-only file system.*; it is read-only"):
        write(index, lambda writer: writer.remove(["v001"]))
