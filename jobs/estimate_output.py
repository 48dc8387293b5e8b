"""What `encode_corpus.py --estimate` prints: what encoding would take, by these settings and their neighbours."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.console import say
from qasir.encoding.corpus_sample import Interval
from qasir.encoding.estimate import INTERVALS, Estimate
from qasir.encoding.forecast import Forecast

_BYTES = ("B", "kB", "MB", "GB", "TB")
_SHARE = 0.01
"""Columns that take less of an index are not named."""


def print_estimate(found: Estimate, uris: Sequence[str]) -> None:
    for change, uri in zip(found.work.changes, uris, strict=True):
        say(
            f"{uri}: {len(change.new):,} new, {len(change.changed):,} changed, {len(change.retried):,} failed before: "
            f"would be encoded; {change.n_unchanged:,} unchanged"
        )
    if found.is_up_to_date:
        say("nothing is to be encoded: the index is up to date" if len(uris) == 1 else "all indexes are up to date")
        return
    for line in _sample_lines(found):
        say(line)
    if not found.forecasts:
        if found.sample.without_length:
            say("none of the videos looked at that can be opened says how long it is: nothing can be estimated of them")
        else:
            say("none of the videos looked at can be opened: a run would record failures and encode nothing")
        return
    asked = found.forecasts[0]
    say(f"video       {_within(found.video_hours, _hours)}")
    say(f"encodings   {_within(asked.super_images, _count)}")
    starting = f"{_time(asked.startup_s)} of it to start and to end"
    say(f"time        {_within(asked.seconds, _time)}, {starting}; {_on(asked)}")
    say(f"bound       {asked.sentence}")
    for tables, uri in zip(asked.index_bytes, uris, strict=True):
        named = f" in {uri}" if len(uris) > 1 else ""
        n_bytes = sum(sum(columns.values()) for columns in tables.values())
        say(f"size        {_size(n_bytes)}{named}: {_columns(tables)}")
    say()
    for line in _table(found.forecasts):
        say(line)


def estimate_facts(found: Estimate, uris: Sequence[str]) -> dict[str, Any]:
    """All of it, as JSON has it: intervals as {value, low, high}, where no upper end is null."""
    sample = found.sample
    return {
        "estimate": True,
        "indexes": [
            {
                "index": uri, "new": len(change.new), "changed": len(change.changed), "retried": len(change.retried),
                "unchanged": change.n_unchanged,
            }
            for change, uri in zip(found.work.changes, uris, strict=True)
        ],
        "up_to_date": found.is_up_to_date,
        "videos": len(found.work.videos) + found.work.unreadable,
        "sample": {
            "headers": sample.headers, "decoded": sample.timed, "decoded_otherwise": sample.timed_otherwise,
            "given_up": sample.given_up, "without_length": sample.without_length,
            "failures_by_kind": dict(sample.failures), "seconds": round(sample.seconds, 1), "intervals": INTERVALS,
        },
        "video_hours": _facts(found.video_hours),
        "failing": _facts(found.failing),
        "decode_cpu_s": _facts(found.decode_cpu_s),
        "encode_s": [_facts(each) for each in found.encode_s],
        "choices": [_choice_facts(each, uris) for each in found.forecasts],
    }  # fmt: skip


def _choice_facts(each: Forecast, uris: Sequence[str]) -> dict[str, Any]:
    bounds = each.bounds
    return {
        "choice": each.name,
        "settings": [
            {"grid": spec.grid, "fps": spec.fps, "sampling": spec.sampling, "max_gap_s": spec.max_gap_s}
            for spec in each.specs
        ],
        "super_images": _facts(each.super_images),
        "seconds": _facts(each.seconds),
        "startup_s": round(each.startup_s, 1),
        "bound": None if bounds is None else bounds.stage,
        "sentence": each.sentence,
        "workers": None if bounds is None else vars(bounds.capacity),
        "cost": None if bounds is None else vars(bounds.cost),
        "bytes": round(each.n_bytes),
        "tables": [
            {"index": uri, **{table: {name: round(n) for name, n in of.items()} for table, of in tables.items()}}
            for tables, uri in zip(each.index_bytes, uris, strict=True)
        ],
    }


def _facts(interval: Interval) -> dict[str, float | None]:
    return {
        "value": interval.value, "low": interval.low, "high": interval.high if math.isfinite(interval.high) else None,
    }  # fmt: skip


def _sample_lines(found: Estimate) -> list[str]:
    sample, n = found.sample, len(found.work.videos)
    if not n:
        return [f"{found.work.unreadable:,} videos are named and cannot be looked up: a run would record that"]
    headers = f"all {n:,} videos" if sample.headers == n else f"{sample.headers:,} of {n:,} videos"
    seen = f"{headers} opened, {sample.timed:,} of them decoded for a moment, in {sample.seconds:.0f} s"
    lines = [f"sample: {seen}; in brackets intervals of {INTERVALS}"]
    if sample.failures:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(sample.failures.items()))
        lines.append(f"failures in the sample: {kinds}; of all videos {_within(found.failing, _count)} would fail")
    elif found.work.unreadable:
        lines.append(f"{found.work.unreadable:,} videos cannot be looked up and would fail")
    if sample.given_up:
        lines.append(f"{sample.given_up:,} took too long to decode for a moment and count as the others do")
    if sample.without_length:
        lines.append(f"{sample.without_length:,} do not say how long they are, and count as the others do")
    return lines


def _on(asked: Forecast) -> str:
    if asked.bounds is None:
        return "nothing to work on"
    at = asked.bounds.capacity
    decoders, encoders = _n(at.decoders, "decoder"), _n(at.encoders, "encoder")
    if at.shares_cores:
        return f"{decoders} and {encoders} on {at.cores:g} CPUs"
    return f"{decoders} on {at.cores:g} CPUs, {encoders} on GPUs"


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _columns(tables: Mapping[str, Mapping[str, float]]) -> str:
    """The columns that matter, the largest first."""
    sizes = {f"{table}.{name}": n for table, columns in tables.items() for name, n in columns.items()}
    least = _SHARE * sum(sizes.values())
    named = sorted((name for name in sizes if sizes[name] > least), key=lambda name: -sizes[name])
    return ", ".join(f"{name} {_size(sizes[name])}" for name in named)


def _table(forecasts: Sequence[Forecast]) -> list[str]:
    rows = [("", "encodings", "time", "bound by", "size")]
    rows += [
        (
            each.name, _within(each.super_images, _count), _within(each.seconds, _time),
            "-" if each.bounds is None else f"{each.bounds.stage[:-1]}ing", _size(each.n_bytes),
        )
        for each in forecasts
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("   ".join([first.ljust(widths[0]), *cells]))
    return lines


def _within(interval: Interval, text: Callable[[float], str]) -> str:
    ends = (interval.value, interval.low, interval.high)
    value, low, high = (text(each) if math.isfinite(each) else "?" for each in ends)
    return value if low == value == high else f"{value} ({low} to {high})"


def _count(n: float) -> str:
    return f"{n:,.0f}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 10 else f"{hours:.2f} h"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _size(n: float) -> str:
    step = min(len(_BYTES) - 1, int(math.log10(n) / 3)) if n >= 1 else 0
    return f"{n / 1000**step:.3g} {_BYTES[step]}"
