"""Questions about ways of ranking: attention or pooling, and what comes on top of zero-shot."""

from collections.abc import Sequence

from qasir.study.comparing import ENCODER, SUMR, first_of_each, grouped, key_of, naming, plain_results
from qasir.study.comparison_charts import Row, dot_chart
from qasir.study.findings import Finding, change, shown
from qasir.study.results import Result

GFLOPS = "gflops_per_video"


def pooling(results: Sequence[Result]) -> Finding:
    question = "Attention, or pooling?"
    zero_shot = [one for one in results if one["kind"] == "zero-shot"]
    by_encoder = grouped(zero_shot, ENCODER)
    compared = [group for group in by_encoder.values() if len({one["aggregation"] for one in group}) > 1]
    if not compared:
        return Finding(question, ["The study has no encoder with two aggregations."])
    firsts = [first_of_each(group, "aggregation") for group in compared]
    name = naming([group[0] for group in firsts], "grid")
    sentences = []
    for group in firsts:
        attention = next((one for one in group if one["aggregation"] == "attention"), group[0])
        told = [f"{change(attention, other)} over {other['aggregation']}" for other in group if other is not attention]
        tau = f", temperature {attention['temperature']:g}" if attention["temperature"] is not None else ""
        sentences.append(
            f"{name(attention)}N = {attention['grid']}: {attention['aggregation']}{tau} {shown(attention)}: "
            f"{', '.join(told)}."
        )
    rows = [
        Row(one["label"], one[SUMR], one[f"{SUMR}_low"], one[f"{SUMR}_high"], f"{name(group[0])}{group[0]['grid']}")
        for group in compared
        for one in group
    ]
    return Finding(question, sentences, dot_chart(rows, SUMR))


def ways(results: Sequence[Result]) -> Finding:
    question = "Zero-shot, fine-tuned, two-stage or hybrid?"
    plain = {key_of(one, ENCODER): one for one in reversed(plain_results(results))}
    rows: list[Row] = []
    sentences: list[str] = []

    def add(one: Result, group: str, *, is_base: bool = False) -> None:
        rows.append(Row(_shorter(one["label"]), one[SUMR], one["SumR_low"], one["SumR_high"], group, is_base))

    for kind in ("fine-tuned", "two-stage", "hybrid"):
        for base_key, group in grouped([one for one in results if one["kind"] == kind], ENCODER).items():
            base = plain.get(base_key)
            if base is not None:
                add(base, f"{kind} {base_key}", is_base=True)
            for one in group:
                add(one, f"{kind} {base_key}")
                if base is None:
                    continue
                saved = ""
                if kind == "hybrid":
                    cost, unit = ("encodings_per_video", "rows") if one[GFLOPS] is None else (GFLOPS, "GFLOPs")
                    saved = f", for {one[cost] / base[cost]:.2f} times the {unit} a video"
                sentences.append(f"{one['label']}: {shown(one)}, {change(one, base)} over {base['label']}{saved}.")
    if not rows:
        return Finding(question, ["The study has zero-shot settings only."])
    return Finding(question, sentences, dot_chart(rows, f"{SUMR}; hollow: the same encoder, zero-shot"))


def _shorter(label: str) -> str:
    return label if len(label) <= 52 else label[:51] + "…"
