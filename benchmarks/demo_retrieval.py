"""The ways of retrieving, compared on the demo benchmark: sparse frames, hybrids, coarse to fine, and moments.

    python benchmarks/demo_retrieval.py --work build/demo_benchmark

Every choice (temperatures, weight, depth) is made on the validation set, another seed's videos. Sets and indexes are
kept in --work and shared with demo_benchmark.py.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from demo_sets import SETS, demo_index

from qasir.demo.render import render_corpus
from qasir.evaluation.evaluate import Evaluation, evaluate
from qasir.evaluation.metrics import paired_difference
from qasir.evaluation.moment_metrics import NAMES
from qasir.evaluation.query import Query
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.tuning import chosen_alone, sum_r
from qasir.retrieval.methods.attention import TEMPERATURES, Attention
from qasir.retrieval.methods.cascade import Cascade
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.fusion import Fusion
from qasir.retrieval.methods.sparse import Sparse
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.opening import together
from qasir.retrieval.searcher import Searcher

GRIDS = (1, 2, 3, 4)
WITH_CELLS = (2, 3)
HYBRIDS = ((1, 2), (1, 3), (2, 3), (2, 4))
RECALL_KS = (5, 10, 20, 50, 100)


def main(
    work: Annotated[Path, typer.Option(help="Folder for videos and indexes, kept between runs.")] = Path(
        "build/demo_benchmark"
    ),
) -> None:
    queries: dict[str, list[Query]] = {}
    searchers: dict[tuple[str, int], Searcher] = {}
    for name, (seed, n_videos) in SETS.items():
        render_corpus(work / name, n_videos, seed)
        queries[name] = read_queries(work / name / "queries.jsonl")
        for grid in GRIDS if name == "test" else WITH_CELLS:
            searchers[name, grid] = demo_index(work, name, grid, cells=grid in WITH_CELLS)
    scoring = _temperature([searchers["validation", g] for g in WITH_CELLS], queries["validation"])
    print(f"temperature chosen on validation at N = 2 and 3, for all: {scoring.temperature:g}")
    test = {g: searchers["test", g] for g in GRIDS}
    dense = {g: evaluate(test[g], queries["test"], scoring) for g in GRIDS}
    results = {
        "sparse": sparse(test[1], queries["test"], scoring, dense),
        "hybrid": hybrids(searchers, queries, scoring, dense),
        "coarse": coarse(test, queries["test"], dense),
        "moments": moments(dense),
    }
    (work / "retrieval.json").write_text(json.dumps(results, indent=2) + "\n")


def _temperature(searchers: list[Searcher], queries: list[Query]) -> Attention:
    tried = [Attention(t) for t in TEMPERATURES]
    return max(tried, key=lambda one: sum(sum_r(searcher, queries, one) for searcher in searchers))


HEAD = "| {} | R@1 | R@5 | R@10 | R@100 | SumR | 95 % | GFLOPs a video | GFLOPs a query |"


def line(name: str, result: Evaluation, more: str = "") -> dict[str, Any]:
    m, (low, high) = result.metrics, result.ci95["SumR"]
    recalls = " | ".join(f"{m[k]:.1f}" for k in ("R@1", "R@5", "R@10", "R@100", "SumR"))
    cost = f"{result.cost.encoding_per_video:.4g} | {result.cost.scoring_per_query:.3g}"
    print(f"| {name} | {recalls} | {low:.0f} to {high:.0f} | {cost} |{more}", flush=True)
    return {
        "name": name,
        "metrics": m,
        "ci95": result.ci95,
        "cost": [result.cost.encoding_per_video, result.cost.scoring_per_query],
    }


def difference(ours: Evaluation, theirs: Evaluation) -> str:
    value, low, high = paired_difference(ours.rank, theirs.rank, ours.groups)["SumR"]
    return f" {value:+.1f} ({low:+.1f} to {high:+.1f}) |"


def head(title: str, more: str = "") -> None:
    text = HEAD.format(title) + more
    print(f"\n{text}\n|" + " --- |" * (text.count("|") - 1))


def sparse(index: Searcher, queries: list[Query], scoring: Attention, dense: dict[int, Evaluation]) -> list[Any]:
    """Super images against as many single frames."""
    head("", " super images minus sparse frames |")
    rows = []
    for grid in GRIDS[1:]:
        frames = evaluate(index, queries, Sparse(grid, scoring.temperature))
        rows.append(line(f"super images, N = {grid}", dense[grid], difference(dense[grid], frames)))
        rows.append(line("as many single frames", frames, " |"))
    return rows


def hybrids(
    searchers: dict[tuple[str, int], Searcher],
    queries: dict[str, list[Query]],
    scoring: Attention,
    dense: dict[int, Evaluation],
) -> list[Any]:
    """The finer grid as the expensive model, the coarser one as the cheap model; weight and depth are chosen on
    validation at N = 2 with N = 3, and used for the other pairs too."""
    head("", " minus the expensive model |")
    rows = [line(f"N = {grid} alone", dense[grid], " |") for grid in GRIDS]
    tuning = together(searchers["validation", 2].side, searchers["validation", 3].side)
    fusion = chosen_alone(tuning, queries["validation"], Fusion(large=scoring, small=scoring), ())
    cascade = chosen_alone(tuning, queries["validation"], Cascade(large=scoring, small=scoring), ())
    for large, small in HYBRIDS:
        both = together(searchers["test", large].side, searchers["test", small].side)
        for name, method in (
            (f"fusion, w = {fusion.numbers()['weight']:g}", fusion),
            (f"cascade, k = {cascade.numbers()['top_k']}", cascade),
        ):
            result = evaluate(both, queries["test"], method)
            rows.append(line(f"N = {large} with N = {small}, {name}", result, difference(result, dense[large])))
    return rows


def coarse(test: dict[int, Searcher], queries: list[Query], dense: dict[int, Evaluation]) -> list[Any]:
    """Accuracy over recall-k, and text-gated interaction; N = 2 and 3, which have cells."""
    rows = []
    for grid in WITH_CELLS:
        head(f"N = {grid}", " minus re-ranking every video |")
        rows.append(line("attention", dense[grid], " |"))
        rows.append(line("tib, gate temperature 0.1", evaluate(test[grid], queries, TextGated()), " |"))
        rows.append(
            line("tib, gate temperature 0.01", evaluate(test[grid], queries, TextGated(gate_temperature=0.01)), " |")
        )
        for rerank in (("super-image",), ("super-image", "cell")):
            name = " and ".join(rerank)
            everything = evaluate(
                test[grid], queries, CoarseToFine("video", len(test[grid].videos().video_ids), rerank)
            )
            rows.append(line(f"every video by {name}", everything, " |"))
            for recall in ("video", "super-image"):
                for k in RECALL_KS:
                    result = evaluate(test[grid], queries, CoarseToFine(recall, k, rerank))
                    rows.append(line(f"{recall}, {k}, {name}", result, difference(result, everything)))
    return rows


def moments(dense: dict[int, Evaluation]) -> list[Any]:
    """Moments from super images and from cells."""
    print("\n| N | moments from | " + " | ".join(NAMES) + " |\n|" + " --- |" * (len(NAMES) + 2))
    rows = []
    for grid, result in dense.items():
        for granularity, row in result.moments.items():
            cells = " | ".join(f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in row.values())
            print(f"| {grid} | {granularity}s | {cells} |", flush=True)
            rows.append({"grid": grid, "granularity": granularity, **row})
    return rows


if __name__ == "__main__":
    typer.run(main)
