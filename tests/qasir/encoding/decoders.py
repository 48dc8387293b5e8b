"""Decoders that tests put in the place of the real one. Children import them, so they import little."""

import os
import signal
import time

import pyarrow as pa

from qasir.encoding.alarm import Alarm
from qasir.encoding.decode import Decoded, decode_segments


def crash_on_b(segments, specs, **options):
    """A decoder whose process dies on one video."""
    if "more/b" in segments["video_id"].to_pylist():
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from decode_segments(segments, specs, **options)


def hang_on_b(segments, specs, **options):
    """A decoder that never comes back from one video."""
    if "more/b" in segments["video_id"].to_pylist():
        with Alarm(options["time_limit_s"]):
            time.sleep(600)
    yield from decode_segments(segments, specs, **options)


def exit_on_b(segments, specs, **options):
    """A decoder that ends its process with a status and last words."""
    if "more/b" in segments["video_id"].to_pylist():
        raise SystemExit("no decoder today")
    yield from decode_segments(segments, specs, **options)


def run_out_on_b(segments, specs, **options):
    """A decoder whose process ends where its own work gets no memory."""
    if "more/b" in segments["video_id"].to_pylist():
        raise MemoryError
    yield from decode_segments(segments, specs, **options)


def hang_after_the_first(segments, specs, **options):
    """A decoder that gives a video's rows and never its report."""
    yield next(decode_segments(segments, specs, **options))
    time.sleep(600)


def without_limit(segments, specs, *, time_limit_s, **options):
    """A decoder that takes no time limit."""
    assert time_limit_s is None
    yield from decode_segments(segments, specs, time_limit_s=time_limit_s, **options)


def kill_on_b(segments, specs, **options):
    """A decoder whose process the system ends on one video, as it does when memory runs out."""
    if "more/b" in segments["video_id"].to_pylist():
        os.kill(os.getpid(), signal.SIGKILL)
    yield from decode_segments(segments, specs, **options)


def note_when(segments, specs, **options):
    """A decoder that takes half a second, and writes beside its video when it began and ended."""
    (uri,) = segments["uri"].to_pylist()
    began = time.monotonic()
    time.sleep(0.5)
    with open(f"{uri}.when", "w") as file:
        file.write(f"{began} {time.monotonic()}")
    yield from ()


def crash_on_a_gpu(segments, specs, *, decoder, **options):
    """A decoder whose process dies of a GPU's driver, whatever the video."""
    if decoder != "cpu":
        os.kill(os.getpid(), signal.SIGSEGV)
    yield from decode_segments(segments, specs, decoder=decoder, **options)


def hang_on_a_gpu(segments, specs, *, decoder, time_limit_s, **options):
    """A decoder that never comes back from a GPU's driver."""
    if decoder != "cpu":
        with Alarm(time_limit_s):
            time.sleep(600)
    yield from decode_segments(segments, specs, decoder=decoder, time_limit_s=time_limit_s, **options)


def from_slow_storage(segments, specs, **options):
    """A decoder that waits for each of its files for half a second."""
    for row in range(len(segments)):
        for part in decode_segments(segments.slice(row, 1), specs, **options):
            if len(part.reports):
                time.sleep(0.5)
                rows = part.reports.to_pylist()
                rows[0] |= {"seconds": rows[0]["seconds"] + 0.5, "wait_s": 0.5}
                part = Decoded(part.tiles, pa.Table.from_pylist(rows, schema=part.reports.schema))
            yield part


def note_node(segments, specs, **options):
    """A decoder that writes beside its video what kind of a cluster's nodes it runs on."""
    for uri in segments["uri"].to_pylist():
        with open(f"{uri}.node", "w") as file:
            file.write(os.environ["RAY_NODE_TYPE_NAME"])
    yield from decode_segments(segments, specs, **options)
