"""The limit on a decoder's memory: one that asks for too much is refused, and the process goes on."""

import resource
import shutil
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

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
from qasir.errors import ERROR_KINDS, SpecError
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
    return cut_videos(plan_table(files, {file.video_id: {0: []} for file in files}), memory_limit=LITTLE)


def statuses(segments, **limits):
    reports = [part.reports for part in decode_segments(segments, [SPEC], **limits)]
    rows = pa.concat_tables(reports).to_pylist()
    return [(row["video_id"], row["status"], row["error_kind"]) for row in rows]


def in_a_fresh_process(function, *given, **named):
    """Memory that other tests took and gave back may be used again without asking for more."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given, named)


def test_a_video_that_takes_more_memory_than_it_may_fails_alone_and_the_limit_is_lifted(videos):
    in_a_fresh_process(fails_alone, videos)


def fails_alone(videos):
    segments, before = segments_of(videos), resource.getrlimit(resource.RLIMIT_DATA)
    expected = [("a", ENCODED, None), ("b", FAILED, "too_large"), ("c", ENCODED, None)]
    assert statuses(segments, memory_limit=LITTLE) == expected
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(np.ones(2 * LITTLE, np.uint8)) == 2 * LITTLE
    assert statuses(segments, memory_limit=DECODE_MEMORY) == [(video_id, ENCODED, None) for video_id in "abc"]


def test_allow_partial_does_not_pass_over_memory_refused(videos):
    found = in_a_fresh_process(statuses, segments_of(videos), memory_limit=LITTLE, allow_partial=True)
    assert ("b", FAILED, "too_large") in found


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


def test_what_is_taken_while_the_limit_is_lifted_is_not_counted_either():
    limit = MemoryLimit(LITTLE)
    with limit:
        limit.renew()
        with limit.lifted():
            held = np.ones(4 * LITTLE, np.uint8)
        assert len(np.ones(LITTLE // 2, np.uint8)) == LITTLE // 2
        with pytest.raises(MemoryError):
            np.ones(2 * LITTLE, np.uint8)
    assert held[-1] == 1
    with MemoryLimit(None) as unlimited, unlimited.lifted():
        pass


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


def test_a_header_that_lists_more_frames_than_memory_holds_costs_no_more_than_the_limit(tmp_path):
    """Without it these 3 KB take 4 GiB, and most of a minute, to open."""
    path = write_video(tmp_path / "videos" / "v.mp4", 30)
    data, many = bytearray(path.read_bytes()), (60_000_000).to_bytes(4, "big")
    for box, at in ((b"stsz", 12), (b"stts", 12), (b"stsc", 16)):  # the fields that count frames
        at += data.index(box)
        data[at : at + 4] = many
    data[data.index(b"stsz") + 8 : data.index(b"stsz") + 12] = (1).to_bytes(4, "big")  # all of one byte
    path.write_bytes(data)
    script = f"import sys; from {__name__} import *; print(read_here(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, path.parent], capture_output=True, text=True, check=True)
    kind, mib = done.stdout.split()
    assert kind in ERROR_KINDS
    assert int(mib) < (LITTLE >> 20) + 50


def read_here(folder):
    """The kind of failure of a folder's only video, and the MiB by which this process grew."""
    segments, before = segments_of(folder), most_resident()
    ((_, _, kind),) = statuses(segments, memory_limit=LITTLE)
    return f"{kind} {most_resident() - before}"


def most_resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(SpecError, match="decode memory 0"):
        EncodeOptions(decode_memory=0)
