"""The plain loop's child process: what it dies of is found, and nothing is left of it."""

import subprocess
import sys
import types
from typing import Any

import pytest

from qasir.encoding.decode import decode_segments
from qasir.errors import QasirError
from tests.qasir.encoding.decoders import crash_on_b, exit_on_b, hang_on_b, run_out_on_b, without_limit
from tests.qasir.encoding.stubs import BrokenModel, encode_stubbed


def failures(index):
    rows = index.table("videos").to_table(filter="status = 'failed'").to_pylist()
    return {row["video_id"]: (row["error_kind"], row["error"]) for row in rows}


def test_a_child_decodes_what_this_process_decodes(videos, tmp_path):
    tables = []
    for isolate in (True, False):
        summary, index = encode_stubbed(videos, tmp_path / str(isolate), isolate=isolate, segment_s=1, segment_bytes=0)
        assert (summary.encoded, summary.failed) == (3, 0)
        tables.append(index.snapshot().super_images().to_pylist())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("decode", "limit_s", "kind", "message"),
    [
        (crash_on_b, 60.0, "crashed", "the process that decodes it dies of SIGSEGV"),
        (exit_on_b, 60.0, "crashed", "the process that decodes it exits with status 1: SystemExit: no decoder today"),
        (
            run_out_on_b,
            60.0,
            "too_large",
            "decoding takes more memory than a decoder may have; its process ended of it",
        ),
        (hang_on_b, 4.0, "timed_out", "decoding made no progress for 4.0 s"),
    ],
)
def test_a_video_that_its_decoder_dies_of_is_recorded_and_the_others_are_encoded(
    videos, tmp_path, decode, limit_s, kind, message
):
    summary, index = encode_stubbed(videos, tmp_path / "index", isolate=True, decode=decode, decode_timeout_s=limit_s)
    assert (summary.encoded, summary.failures_by_kind) == (2, {kind: 1})
    assert failures(index) == {"more/b": (kind, message)}


def test_without_a_child_there_is_no_time_limit(videos, tmp_path):
    summary, _ = encode_stubbed(videos, tmp_path / "index", decode=without_limit, decode_timeout_s=2.0)
    assert summary.encoded == 3


def test_a_model_that_fails_ends_the_run_the_child_and_blames_no_video(videos, tmp_path):
    with pytest.raises(QasirError, match="the encoder failed: RuntimeError: out of memory, say"):
        encode_stubbed(videos, tmp_path / "index", isolate=True, models=[BrokenModel()])
    summary, _ = encode_stubbed(videos, tmp_path / "index")
    assert (summary.encoded, summary.unchanged) == (3, 0)


def test_a_child_that_cannot_start_is_an_error_and_no_failed_video(videos, tmp_path, monkeypatch):
    module: Any = types.ModuleType("nowhere_on_disk")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def decode(*args, **options):
        yield from decode_segments(*args, **options)

    decode.__module__, decode.__qualname__ = module.__name__, "decode"
    module.decode = decode
    with pytest.raises(QasirError, match="the decoding process cannot start"):
        encode_stubbed(videos, tmp_path / "index", isolate=True, decode=decode)


PARENT = """
import os, sys
from tests.qasir.encoding.decoders import hang_after_the_first
from tests.qasir.encoding.stubs import encode_stubbed

def end(progress):
    os._exit(7)

encode_stubbed(
    sys.argv[1], sys.argv[2], isolate=True, batch=1, decode=hang_after_the_first, decode_timeout_s=None, on_progress=end
)
"""


def test_a_child_ends_with_its_parent(videos, tmp_path):
    """Whoever waits for the end of stderr waits for every process that holds it."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(videos), str(tmp_path / "index")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr


SCRIPT = """
import sys
import qasir

videos = [sys.argv[1] + "/a.mp4", sys.argv[1] + "/more/b.mp4"]
summary = qasir.encode(videos, sys.argv[2], model=qasir.EncoderOptions(grid=2, fps=2.0))
print(summary.encoded, summary.super_images)
"""


def test_a_script_without_a_guard_encodes(videos, tmp_path):
    """A child that ran the script again would never end."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(videos), str(tmp_path / "index")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("2 4\n", 0), done.stderr


def test_importing_qasir_and_its_decoding_child_loads_neither_torch_nor_lance():
    code = "import sys, qasir, qasir.encoding.child; sys.exit(any(m in sys.modules for m in ('torch', 'lance', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
