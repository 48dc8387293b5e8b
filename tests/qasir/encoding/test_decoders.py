"""Runs whose videos are decoded on a GPU, with what stands for one, and what they say of it."""

import json
from functools import partial
from pathlib import Path

import pytest

import qasir
from qasir.encoding.decode import decode_segments
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.reports import Report
from qasir.encoding.rows import plan_table, whole_video
from qasir.errors import SpecError
from qasir.index.index import Index
from qasir.video.corpus import list_videos
from qasir.video.hardware import Gpus, gpu_places
from tests.qasir.encoding.decoders import crash_on_a_gpu, hang_on_a_gpu
from tests.qasir.encoding.stubs import SPEC, encode_stubbed, reindex_stubbed
from tests.qasir.encoding.test_encode import contents
from tests.qasir.video.test_hardware import OneGpu
from tests.videos import write_video


def on_gpu(folder, **how):
    """Decoding with one GPU, that does all a CPU does but for its faults."""
    return partial(decode_segments, gpus=Gpus(Path(folder), find=lambda: {"a": 8}, start=lambda device: OneGpu(**how)))


def test_a_gpu_makes_the_rows_that_a_cpu_makes_and_the_run_says_who_decoded(videos, tmp_path):
    write_video(videos / "other.avi", 10, codec="mpeg4")
    many = {"segment_s": 1, "segment_bytes": 0}
    _, here = encode_stubbed(videos, tmp_path / "cpu", decoder="cpu", **many)
    summary, there = encode_stubbed(
        videos, tmp_path / "cuda", decoder="cuda", decode=on_gpu(tmp_path, delay=3, skips=False), **many
    )
    assert contents(there) == contents(here)
    n_segments = 5  # nothing is wanted of the last second of one of them
    assert (summary.decoded_by, summary.fallbacks) == ({"cuda": n_segments, "cpu": 1}, {"codec": 1})
    (run,) = there.table("runs").to_table().to_pylist()
    counts = json.loads(run["counts"])
    assert (counts["decoded_by"], counts["fallbacks"]) == (summary.decoded_by, summary.fallbacks)


def test_a_gpu_that_breaks_off_costs_no_video(videos, tmp_path):
    _, here = encode_stubbed(videos, tmp_path / "cpu", decoder="cpu")
    summary, there = encode_stubbed(
        videos, tmp_path / "cuda", decoder="cuda", decode=on_gpu(tmp_path, breaks_at=9, delay=1)
    )
    assert contents(there) == contents(here)
    assert summary.failed == 0
    assert (summary.decoded_by, sum(summary.fallbacks.values())) == ({"cpu": 3}, 3)


@pytest.mark.parametrize("decode", [crash_on_a_gpu, hang_on_a_gpu])
def test_what_its_process_dies_of_on_a_gpu_is_decoded_on_the_cpu(videos, tmp_path, decode):
    summary, _ = encode_stubbed(
        videos, tmp_path / "index", isolate=True, decode=decode, decoder="cuda", decode_timeout_s=4.0
    )
    assert (summary.encoded, summary.failed, summary.decoded_by) == (3, 0, {"cpu": 3})


def test_small_frames_are_not_for_a_gpu_unless_one_is_told_to_take_them(videos, tmp_path):
    summary, _ = encode_stubbed(videos, tmp_path / "index", decode=on_gpu(tmp_path))
    assert (summary.decoded_by, summary.fallbacks) == ({"cpu": 3}, {"small": 3})
    write_video(videos / "new.mp4", 20)
    assert reindex_stubbed(videos, tmp_path / "index")[0].fallbacks == {"small": 1}
    summary, _ = encode_stubbed(videos, tmp_path / "other", decoder="cpu", decode=on_gpu(tmp_path))
    assert (summary.decoded_by, summary.fallbacks) == ({"cpu": 4}, {})


def test_without_a_place_on_a_gpu_the_cpu_decodes(videos, tmp_path):
    others = Gpus(tmp_path, find=lambda: {"a": 1}, start=lambda device: OneGpu())
    others.get()
    decode = partial(decode_segments, gpus=Gpus(tmp_path, find=lambda: {"a": 1}, start=lambda device: OneGpu()))
    summary, _ = encode_stubbed(videos, tmp_path / "index", decoder="cuda", decode=decode)
    assert (summary.decoded_by, summary.fallbacks) == ({"cpu": 3}, {"no_place": 3})


def test_what_one_segment_took_is_told_for_one_index_only(videos):
    (file,) = [one for one in list_videos(str(videos)).videos if one.video_id == "a"]
    (row,) = plan_table([file], {"a": {0: [], 1: []}}).to_pylist()
    parts = list(decode_segments(whole_video(row), [SPEC, SPEC], decoder="auto"))
    told = [Report(**report) for report in parts[-1].reports.to_pylist()]
    assert [(report.decoder, report.fallback) for report in told] == [("cpu", "small"), (None, None)]


@pytest.mark.skipif(bool(gpu_places()), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_before_anything_is_written(videos, tmp_path):
    with pytest.raises(SpecError, match="this machine has no GPU: choose auto or cpu"):
        qasir.encode(videos, tmp_path / "index", model=EncoderOptions(grid=2), options=EncodeOptions(decoder="cuda"))
    assert Index.find(str(tmp_path / "index")) is None
    with pytest.raises(SpecError, match="unknown decoder 'gpu'"):
        EncodeOptions(decoder="gpu")  # type: ignore[arg-type]
