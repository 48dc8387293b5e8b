"""The limit on a decoder's memory: one that asks for too much is refused, and the process goes on."""

import resource
import shutil

import numpy as np
import pyarrow as pa
import pytest

from qasir.encoding.child import Task
from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import decode_segments
from qasir.encoding.memory import DECODE_MEMORY, MemoryLimit
from qasir.encoding.options import EncodeOptions
from qasir.encoding.rows import plan_table
from qasir.encoding.watched import death_of
from qasir.errors import SpecError
from qasir.index.schemas import ENCODED, FAILED
from qasir.video.corpus import list_videos
from tests.qasir.encoding.stubs import SPEC, encode_stubbed
from tests.videos import write_blank, write_video

LITTLE = 100 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A frame of 8K and 200 MiB, which H.264's decoder passes over where it gets no memory for it."""
    path = tmp_path_factory.mktemp("large") / "b.mp4"
    return write_blank(path, (8192, 4320), "libx264", "yuv444p10le", preset="ultrafast")


@pytest.fixture
def videos(large, tmp_path):
    """A small video, one whose frames are of 8K and within the limit of pixels, and another small one."""
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", 30)
    shutil.copy(large, folder / "b.mp4")
    write_video(folder / "c.mp4", 30)
    return folder


def segments_of(folder):
    files = list(list_videos(str(folder)).videos)
    return cut_videos(plan_table(files, {file.video_id: {0: []} for file in files}))


def statuses(segments, **limits):
    reports = [part.reports for part in decode_segments(segments, [SPEC], **limits)]
    rows = pa.concat_tables(reports).to_pylist()
    return [(row["video_id"], row["status"], row["error_kind"]) for row in rows]


def test_a_video_that_takes_more_memory_than_it_may_fails_alone_and_the_limit_is_lifted(videos):
    segments, before = segments_of(videos), resource.getrlimit(resource.RLIMIT_DATA)
    expected = [("a", ENCODED, None), ("b", FAILED, "too_large"), ("c", ENCODED, None)]
    assert statuses(segments, memory_limit=LITTLE) == expected
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(np.ones(2 * LITTLE, np.uint8)) == 2 * LITTLE
    assert statuses(segments, memory_limit=DECODE_MEMORY) == [(video_id, ENCODED, None) for video_id in "abc"]


def test_allow_partial_does_not_pass_over_memory_refused(videos):
    assert ("b", FAILED, "too_large") in statuses(segments_of(videos), memory_limit=LITTLE, allow_partial=True)


def test_whoever_takes_what_was_decoded_has_no_limit(videos):
    for part in decode_segments(segments_of(videos), [SPEC], memory_limit=LITTLE):
        assert len(part.tiles) + len(part.reports) > 0
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_what_the_process_holds_already_is_not_counted():
    held = np.ones(4 * LITTLE, np.uint8)
    limit = MemoryLimit(LITTLE)
    with limit:
        limit.renew()
        assert len(np.ones(LITTLE // 2, np.uint8)) == LITTLE // 2
        with pytest.raises(MemoryError):
            np.ones(2 * LITTLE, np.uint8)
    assert held[-1] == 1


def test_the_child_of_the_plain_loop_has_a_limit_and_this_process_has_none(videos, tmp_path):
    summary, index = encode_stubbed(videos, tmp_path / "child", isolate=True, decode_memory=LITTLE)
    assert (summary.encoded, summary.failures_by_kind) == (2, {"too_large": 1})
    (row,) = index.table("videos").to_table(filter="status = 'failed'").to_pylist()
    assert row["video_id"] == "b"
    assert "memory" in row["error"]
    summary, _ = encode_stubbed(videos, tmp_path / "here", isolate=False, decode_memory=LITTLE)
    assert summary.encoded == 3


def test_a_suspect_that_takes_too_much_memory_does_not_die_of_it(videos):
    task = Task(decode_segments, [SPEC], EncodeOptions(decode_memory=LITTLE))
    assert death_of(segments_of(videos), task) is None


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(SpecError, match="decode memory 0"):
        EncodeOptions(decode_memory=0)
