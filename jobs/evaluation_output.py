"""What evaluating prints: metrics with their intervals, moments, and methods side by side."""

import json
from collections.abc import Mapping
from typing import Any

from jobs.console import say
from jobs.hits_output import print_left_out
from qasir.evaluation.evaluate import Evaluation, VideoToText
from qasir.evaluation.metrics import METRICS
from qasir.evaluation.moment_metrics import CORPUS_NAMES, MOMENTS_RANKED, NAMES, CorpusMoments

_PAST = {"skip": "skipped", "miss": "missed"}


def json_text(found: Mapping[str, Any]) -> str:
    return json.dumps(found, indent=2, default=str) + "\n"


def print_evaluation(result: Evaluation) -> None:
    skipped = sum(result.skipped.values())
    left_out = f", {skipped} {_PAST[result.missing]}: {result.skipped}" if skipped else ""
    say(f"{len(result.rank)} queries, {result.n_videos} videos{left_out}")
    print_left_out(result.left_out)
    say(f"ranked by {result.method.sentence()}")
    notes = dict.fromkeys(result.saturated, f"says nothing: only {result.n_videos} videos")
    _print_metrics(result.metrics, result.ci95, notes)
    if result.moments:
        say(f"{'moments from':14}" + "".join(f"{name:>13}" for name in NAMES))
    for granularity, row in result.moments.items():
        say(f"{granularity + 's':14}" + "".join(f"{row[name][0]:13.1f}" for name in NAMES))
    if result.corpus_moments is not None and result.corpus_moments.recalls:
        _print_corpus_moments(result.corpus_moments)


def _print_corpus_moments(found: CorpusMoments) -> None:
    nms = "" if found.nms is None else f", no two of a video with an IoU above {found.nms:g}"
    left_out = f" ({found.without_moment} have none)" if found.without_moment else ""
    say(f"moments of all videos ranked, for {found.n_queries} queries{left_out}: {MOMENTS_RANKED} a query{nms}")
    say(f"{'':14}" + "".join(f"{name:>14}" for name in CORPUS_NAMES))
    for granularity, row in found.recalls.items():
        say(f"{granularity + 's':14}" + "".join(f"{row[name][0]:14.1f}" for name in CORPUS_NAMES))


def print_video_to_text(result: VideoToText) -> None:
    say(f"{len(result.video_ids)} videos, {len(result.queries)} texts")
    print_left_out(result.left_out)
    say(f"ranked by {result.method.sentence()}")
    _print_metrics(result.metrics, result.ci95, {})


def print_compared(compared: Mapping[str, Evaluation]) -> None:
    say(f"{'':10}{'R@1':>7}{'SumR':>8}   {'95 %':14}{'GFLOPs a video':>15}{'a query':>9}")
    for name, each in compared.items():
        low, high = each.ci95["SumR"]
        interval = f"{low:.1f} to {high:.1f}"
        say(
            f"{name:10}{each.metrics['R@1']:7.1f}{each.metrics['SumR']:8.1f}   {interval:14}"
            f"{each.cost.encoding_per_video:15.4g}{each.cost.scoring_per_query:9.3g}"
        )


def _print_metrics(
    metrics: Mapping[str, float], ci95: Mapping[str, tuple[float, float]], notes: Mapping[str, str]
) -> None:
    say(f"{'metric':8}{'value':>9}   95 % interval")
    for name in METRICS:
        low, high = ci95[name]
        digits = 3 if name == "MRR" else 1
        note = notes.get(name, f"{low:.{digits}f} to {high:.{digits}f}")
        say(f"{name:8}{metrics[name]:9.{digits}f}   {note}")
