"""What a person sees of encoding: how far it is, and at the end where the time went."""

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from qasir.encoding.reindex import ReindexSummary
from qasir.encoding.run import EncodeSummary, RunProgress
from qasir.video.hardware import CPU

log = logging.getLogger("qasir")

_LINE_EVERY_S = 30.0


class EncodingProgress:
    """Shows how far encoding is: a bar on a terminal, else a line in the log every half a minute."""

    def __init__(self) -> None:
        self._bar = tqdm(unit="video", desc="encoding", disable=not sys.stderr.isatty(), leave=False)
        self._told_at = time.monotonic()

    def __enter__(self) -> "EncodingProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def show(self, now: RunProgress) -> None:
        rate = now.super_images / now.seconds if now.seconds else 0.0
        self._bar.total, self._bar.n = now.planned, now.done
        self._bar.set_postfix_str(f"{now.super_images:,} super images, {rate:,.1f}/s", refresh=False)
        self._bar.refresh()
        if self._bar.disable and time.monotonic() - self._told_at >= _LINE_EVERY_S:
            self._told_at = time.monotonic()
            log.info(progress_line(now))


def progress_line(now: RunProgress) -> str:
    """One line for a log: how much is done, how fast, and how long the rest takes if it is like what is done."""
    left = (
        f"about {_about(now.seconds / now.done * (now.planned - now.done))} left"
        if now.done
        else "nothing finished yet"
    )
    rate = f"{now.super_images:,} super images, {now.super_images / max(now.seconds, 1e-9):,.1f} a second"
    return f"{now.done:,} of {now.planned:,} videos ({100 * now.done / max(1, now.planned):.0f} %), {rate}; {left}"


def _about(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def failure_lines(summary: EncodeSummary | ReindexSummary) -> list[str]:
    """What failed in a run, and what failures it left behind."""
    lines = []
    if summary.failures_by_kind:
        lines.append("failures: " + ", ".join(f"{kind} {n}" for kind, n in sorted(summary.failures_by_kind.items())))
    if summary.failed_again:
        lines.append(f"{summary.failed_again} of {summary.retried} that had failed before failed again")
    if summary.stale:
        lines.append(f"stale: {summary.stale} (encoded as they were, since the new version of their file failed)")
    return lines


def decoder_lines(summary: EncodeSummary | ReindexSummary) -> list[str]:
    """What decoded the videos, and why not the GPU, where a GPU was asked for."""
    if not summary.fallbacks and set(summary.decoded_by) <= {CPU}:
        return []
    counts = ", ".join(f"{n:,} on {name}" for name, n in sorted(summary.decoded_by.items(), reverse=True))
    reasons = ", ".join(f"{name} {n:,}" for name, n in sorted(summary.fallbacks.items()))
    return [f"segments decoded: {counts}" + (f"; not on a GPU: {reasons}" if reasons else "")]


def throughput_lines(facts: Mapping[str, Any], *, super_images: int, video_seconds: float) -> list[str]:
    """What each stage did per second it was busy, which one held the others up, and what that means."""
    if facts["bottleneck"] is None:
        return []
    amounts = {"decode": (video_seconds, "video-seconds"), "encode": (super_images, "super images")}
    amounts |= {"write": (super_images, "super images"), "commit": (super_images, "super images")}
    probe = facts["probe"]
    probed = f", {probe['seconds']:.1f} s of it a probe with {_sizes(probe['workers'])}" if probe else ""
    lines = [f"start-up {facts['startup_s']:.1f} s{probed}; then, by stage:"]
    for stage, busy in facts["busy_s"].items():
        amount, unit = amounts[stage]
        n = facts["workers"].get(stage)
        workers = f" x {n}" if n else ""
        rate = f"{amount / busy:,.1f} {unit} a second" if busy else "-"
        lines.append(f"  {stage + workers:<12} {busy:8.1f} s busy ({100 * facts['utilisation'][stage]:3.0f} %)  {rate}")
    lines.append(facts["bounds"] or f"bottleneck: {facts['bottleneck']}")
    return lines


def _sizes(workers: Mapping[str, int]) -> str:
    return f"{workers['decode']} decoders and {workers['encode']} encoders"
