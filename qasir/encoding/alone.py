"""Finds out whether a video's decoding kills its process, by decoding it alone."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from qasir.encoding.options import EncodeOptions
from qasir.index.spec import EncoderSpec

Decode = Callable[..., Iterator[Any]]
"""`qasir.encoding.decode.decode_segments`, or what a test puts in its place."""

_LAST_LINE = 300
_RUN = "import pickle, sys; f, a, k = pickle.load(sys.stdin.buffer); [None for _ in f(*a, **k)]"


@dataclass(frozen=True)
class Death:
    """How a process that decoded one video ended: a kind of `qasir.errors.ERROR_KINDS` and a message."""

    kind: str
    message: str


def death_of(segments: pa.Table, specs: Sequence[EncoderSpec], options: EncodeOptions, decode: Decode) -> Death | None:
    """Decode these segments in a process of their own; None when it ends by itself."""
    limits = decode_limits(options)
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        input=pickle.dumps((decode, (segments, specs), limits)),
        env=environment(),
        capture_output=True,
        check=False,
    )
    last = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:_LAST_LINE]
    return death_by(done.returncode, last, limits["time_limit_s"])


def decode_limits(options: EncodeOptions) -> dict[str, Any]:
    """What `decode_segments` takes of a run's options."""
    return {"allow_partial": options.allow_partial, "time_limit_s": options.decode_timeout_s}


def cut_limits(options: EncodeOptions) -> dict[str, Any]:
    """What `cut_videos` takes of a run's options."""
    return {
        "segment_s": options.segment_s,
        "segment_bytes": options.segment_bytes,
        "time_limit_s": options.decode_timeout_s,
    }


def environment() -> dict[str, str]:
    """A child's: it imports what this process can, without importing or running the user's script."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def death_by(status: int, last_words: str, time_limit_s: float | None) -> Death | None:
    """What an exit status means."""
    if status == 0:
        return None
    if status == -signal.SIGALRM:
        return Death("timed_out", f"decoding made no progress for {time_limit_s} s")
    if status < 0:
        return Death("crashed", f"the process that decodes it dies of {signal.Signals(-status).name}")
    return Death("crashed", f"the process that decodes it exits with status {status}: {last_words}")
