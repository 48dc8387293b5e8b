"""Decoding in Ray's workers, which are used again."""

import resource

import numpy as np
import pyarrow as pa
import ray

from qasir.encoding.cut import cut_videos
from qasir.encoding.decode import decode_segments
from qasir.encoding.rows import plan_table
from qasir.video.corpus import list_videos
from tests.qasir.encoding.stubs import SPEC
from tests.videos import write_blank, write_video

LIMIT = 150 << 20


def decode_here(segments):
    """[(video, kind of failure)], the limit that is left, and what may be taken afterwards."""
    reports = [part.reports for part in decode_segments(segments, [SPEC], memory_limit=LIMIT)]
    kinds = [(row["video_id"], row["error_kind"]) for row in pa.concat_tables(reports).to_pylist()]
    return kinds, resource.getrlimit(resource.RLIMIT_DATA)[0], len(np.ones(2 * LIMIT, np.uint8))


def test_a_video_that_takes_too_much_memory_fails_alone_and_leaves_the_worker_as_it_was(local_ray, tmp_path):
    write_video(tmp_path / "a.mp4", 20)
    write_blank(tmp_path / "b.mp4", (8192, 4320), "libx264", "yuv444p10le", preset="ultrafast")
    write_video(tmp_path / "c.mp4", 20)
    files = list(list_videos(str(tmp_path)).videos)
    segments = cut_videos(plan_table(files, {file.video_id: {0: []} for file in files}))
    kinds, limit, taken = ray.get(ray.remote(num_cpus=1)(decode_here).remote(segments))
    assert kinds == [("a", None), ("b", "too_large"), ("c", None)]
    assert (limit, taken) == (resource.RLIM_INFINITY, 2 * LIMIT)
