"""Encoding on Ray Data: that the graph does what the plain loop does, and survives what only happens on Ray."""

import os
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from ray.data import DataContext

from pipelines.cluster import graph_settings, node_memory
from pipelines.encode import RayStages, encode_corpus, encoder_pool, segments_a_block
from pipelines.workers import Workers
from qasir.encoding.encode import plain_stages
from qasir.encoding.models import Target
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.prepare import prepare
from qasir.encoding.rows import plan_table, whole_video
from qasir.encoding.run import run_encoding
from qasir.errors import QasirError
from qasir.video.corpus import VideoFile, list_videos
from qasir.vlm.weights import VlmSource
from tests.qasir.encoding.decoders import crash_on_b, from_slow_storage, note_when
from tests.videos import write_video

# In fp32, since batches differ in size, and bf16 with them.
OPTIONS = EncoderOptions(grid=2, fps=2.0, image_size=96, precision="fp32")


def assert_same(one, other):
    """Equal tables, but for what differs in floating point with the order of a batch, and in time."""
    for name in ("super_images", "videos"):
        tables = [index.table(name).to_table() for index in (one, other)]
        keys = [(key, "ascending") for key in ("video_id", "position") if key in tables[0].column_names]
        mine, theirs = (table.sort_by(keys).to_pydict() for table in tables)
        assert mine.keys() == theirs.keys()
        for column in mine.keys() - {"encoded_at"}:
            if "embedding" in column:
                ours, others = (
                    np.array([v for v in values if v is not None], np.float32)
                    for values in (mine[column], theirs[column])
                )
                np.testing.assert_allclose(ours, others, atol=2e-3)
            else:
                assert mine[column] == theirs[column], column


@pytest.mark.ray
def test_a_graph_fills_the_tables_that_the_loop_fills(local_ray, videos, tmp_path):
    (videos / "bad.mp4").write_bytes(b"nothing")
    corpus = list_videos(str(videos))
    small = replace(OPTIONS, grid=1, cells=False, thumbnails=False)
    wanted = [OPTIONS, replace(small, fps=10.0), replace(small, sampling="keyframes", fps=1.0, max_gap_s=1.0)]
    options = EncodeOptions(segment_s=1, segment_bytes=0, commit_every_s=0.0)
    seen = []
    targets = {}
    for name in ("ray", "loop"):
        targets[name] = [Target(*prepare(one, str(tmp_path / f"{name}{i}"), corpus)) for i, one in enumerate(wanted)]

    def look(progress):
        seen.append(targets["ray"][1].index.table("super_images").count_rows())

    summaries = encode_corpus(corpus, targets["ray"], options, on_progress=look)
    assert [(s.encoded, s.failures_by_kind) for s in summaries] == [(3, {"not_a_video": 1})] * 3
    assert summaries[0].throughput["workers"] == {"decode": 3, "encode": 1}  # no second encoder for so few
    assert summaries[0].throughput["busy_s"]["decode"] > 0
    assert any(0 < n < 67 for n in seen), "what is done is committed while the rest is encoded"
    stages = plain_stages(targets["loop"], options, isolate=False)
    run_encoding(corpus, [target.index for target in targets["loop"]], stages, options)
    for mine, theirs in zip(targets["ray"], targets["loop"], strict=True):
        assert_same(mine.index, theirs.index)


@pytest.mark.ray
def test_suspects_have_a_cpu_each_and_memory_that_the_cluster_has(local_ray, tmp_path):
    """Ray has two CPUs here, and never more memory than this machine."""
    assert 0 < node_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    files = [VideoFile(f"v{i}", str(tmp_path / f"v{i}"), 1, "f") for i in range(6)]
    segments = [whole_video(row) for row in plan_table(files, {file.video_id: {0: []} for file in files}).to_pylist()]
    assert RayStages([], EncodeOptions(), decode=note_when).alone(segments) == [None] * 6
    times = [tuple(map(float, (tmp_path / f"v{i}.when").read_text().split())) for i in range(6)]
    assert max(sum(start <= began < end for start, end in times) for began, _ in times) <= 2


@pytest.mark.slow
@pytest.mark.ray
def test_a_video_that_kills_its_decoder_is_recorded_and_those_of_its_block_are_encoded(local_ray, tmp_path):
    write_video(tmp_path / "videos" / "more" / "b.mp4", 2)
    for i in range(99):
        shutil.copy(tmp_path / "videos" / "more" / "b.mp4", tmp_path / "videos" / f"v{i:02}.mp4")
    corpus, options = list_videos(str(tmp_path / "videos")), EncodeOptions()
    model = replace(OPTIONS, cells=False, thumbnails=False)
    target = Target(*prepare(model, str(tmp_path / "index"), corpus))
    stages = RayStages([target], options, decode=crash_on_b)
    (summary,) = run_encoding(corpus, [target.index], stages, options)
    assert (summary.encoded, summary.failures_by_kind) == (99, {"crashed": 1})
    assert target.index.states()["more/b"].status == "failed"
    assert target.index.table("super_images").count_rows() == 99


@pytest.mark.slow
@pytest.mark.ray
def test_a_model_that_cannot_be_loaded_ends_the_job_and_is_named(local_ray, videos, tmp_path):
    corpus = list_videos(str(videos))
    index, _ = prepare(OPTIONS, str(tmp_path / "index"), corpus)
    gone = VlmSource("qasir-tiny", str(tmp_path / "gone.safetensors"))
    with pytest.raises(QasirError, match="cannot load 'qasir-tiny' with '.*gone.safetensors'"):
        encode_corpus(corpus, [Target(index, gone)])
    assert index.states() == {}


@pytest.mark.ray
def test_a_graphs_settings_are_put_back(local_ray):
    context = DataContext.get_current()

    def settings():
        return context.max_errored_blocks, context.target_max_block_size, context.enable_progress_bars

    before = settings()
    with graph_settings(block_bytes=1 << 20, may_lose_blocks=True):
        assert settings() == (-1, 1 << 20, False)
    assert settings() == before


def test_clips_share_blocks_as_long_as_there_are_enough_to_go_round():
    def together(n, each_s, n_segments=1):
        segments = pa.table({"stated_s": [float(each_s * n_segments)] * n, "n_segments": [n_segments] * n})
        return segments_a_block(segments, n_decoders=3)

    assert [together(n, 20) for n in (1, 95, 96, 150, 10_000)] == [1, 1, 2, 3, 4]
    assert [together(1000, s) for s in (0, 2, 50, 3600)] == [20, 20, 1, 1]
    assert together(1000, 300, n_segments=36) == 1
    assert together(100_000, 3600) == 5


class TellsHowMany:
    """Rows say how many calls were under way when theirs ended."""

    def __init__(self):
        self._under_way, self._lock = 0, threading.Lock()

    def __call__(self, rows):
        with self._lock:
            self._under_way += 1
        time.sleep(0.5)
        with self._lock:
            seen, self._under_way = self._under_way, self._under_way - 1
        return pa.table({"calls": [seen] * len(rows)})


@pytest.mark.ray
def test_an_encoder_on_a_gpu_has_the_next_batch_before_it_is_done(local_ray):
    workers = Workers(encoders=1, encoder_cpus=0.1, encoder_gpus=1.0, threads=1, decoders=1, batch=1)
    seen = {}
    for gpus in (0.0, 1.0):
        rows = ray.data.from_arrow([pa.table({"number": [number]}) for number in range(6)]).map_batches(
            TellsHowMany, batch_size=1, batch_format="pyarrow", num_cpus=0.1,
            compute=encoder_pool(replace(workers, encoder_gpus=gpus)),
        )  # fmt: skip
        seen[gpus] = {row["calls"] for row in rows.take_all()}
    assert seen == {0.0: {1}, 1.0: {1, 2}}


@pytest.mark.slow
@pytest.mark.ray
def test_decoders_that_wait_for_storage_become_more_and_what_the_first_made_is_kept(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.probe._LEAST_S", 2.0)
    monkeypatch.setattr("pipelines.probe._WORTH", 0.0)
    monkeypatch.setattr("pipelines.encode.most_decoders", lambda cpus, memory: 8)  # whatever memory this machine has
    write_video(tmp_path / "videos" / "v00.mp4", 4)
    for i in range(1, 80):
        shutil.copy(tmp_path / "videos" / "v00.mp4", tmp_path / "videos" / f"v{i:02}.mp4")
    corpus, options = list_videos(str(tmp_path / "videos")), EncodeOptions(commit_every_s=1.0)
    model = replace(OPTIONS, grid=1, cells=False, thumbnails=False)
    target = Target(*prepare(model, str(tmp_path / "index"), corpus))
    written = []

    def look(progress):
        written.append(progress.super_images)

    stages = RayStages([target], options, decode=from_slow_storage)
    (summary,) = run_encoding(corpus, [target.index], stages, options, on_progress=look)
    assert (summary.encoded, summary.failed) == (80, 0)
    facts = summary.throughput
    assert facts["probe"]["workers"]["decode"] == 3
    assert facts["workers"]["decode"] == 8
    assert facts["probe"]["seconds"] < facts["startup_s"] < summary.seconds
    assert facts["bounds"].startswith(("decoding bounds this", "start-up took"))
    assert written == sorted(written), "nothing is thrown away"
    rows = target.index.table("super_images").to_table(columns=["video_id", "position"]).to_pylist()
    n_each = len(rows) // 80
    expected = [(f"v{i:02}", position) for i in range(80) for position in range(n_each)]
    assert sorted((row["video_id"], row["position"]) for row in rows) == expected
