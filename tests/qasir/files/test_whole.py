"""Files that are written whole or not at all."""

import pyarrow as pa
import pytest

from qasir.errors import StorageError
from qasir.files.whole import write_bytes, write_lines, write_parquet, write_whole

WRITES = [
    pytest.param(lambda path: write_whole(path, "text"), id="text"),
    pytest.param(lambda path: write_lines(path, ["text\n"]), id="lines"),
    pytest.param(lambda path: write_bytes(path, b"bytes"), id="bytes"),
    pytest.param(lambda path: write_parquet(path, pa.table({"a": [1]})), id="table"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_file_is_replaced(tmp_path, write):
    (tmp_path / "file").write_text("before")
    write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() != b"before"


@pytest.mark.parametrize("write", WRITES)
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, write):
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/no/file: No such file"):
        write(tmp_path / "no" / "file")
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/file: Is a directory"):
        write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_is_no_unicode_is_written_out(tmp_path):
    write_whole(tmp_path / "page.html", "caf\udce9")
    assert (tmp_path / "page.html").read_text() == "caf\\udce9"
