"""The demo benchmark: SumR of an encoder on 300 rendered videos, by grid size and aggregation.

The temperature of the attention is chosen on the validation set (another seed), one for all grids from the grids that
--tune-grids names, and then used on the test set. Sets and indexes are kept in --work, so that running it again does
only what is left.

    python benchmarks/demo_benchmark.py --work build/demo_benchmark
"""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer
from demo_sets import SETS, demo_index

from qasir.demo.render import render_corpus
from qasir.evaluation.evaluate import evaluate
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.tuning import sum_r
from qasir.retrieval.methods.attention import TEMPERATURES, Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean


def main(
    work: Annotated[Path, typer.Option(help="Folder for videos and indexes, kept between runs.")] = Path(
        "build/demo_benchmark"
    ),
    grids: Annotated[str, typer.Option(help="Grid sizes.")] = "1,2,3,4",
    tune_grids: Annotated[str, typer.Option(help="Grid sizes that choose the temperature.")] = "2,3",
    model: Annotated[str, typer.Option(help="open_clip model.")] = "qasir-tiny",
    pretrained: Annotated[str | None, typer.Option(help="Tag or checkpoint.")] = None,
) -> None:
    sizes, tuned = ([int(grid) for grid in text.split(",")] for text in (grids, tune_grids))
    searchers, queries = {}, {}
    for name, (seed, n_videos) in SETS.items():
        render_corpus(work / name, n_videos, seed)
        queries[name] = read_queries(work / name / "queries.jsonl")
        for grid in tuned if name == "validation" else sizes:
            searchers[name, grid] = demo_index(work, name, grid, model=model, pretrained=pretrained)
    by_temperature = {
        t: [sum_r(searchers["validation", g], queries["validation"], Attention(t)) for g in tuned] for t in TEMPERATURES
    }
    print("validation SumR by temperature:")
    for t, values in by_temperature.items():
        print(f"  {t:<6} " + "  ".join(f"N={g} {v:.1f}" for g, v in zip(tuned, values, strict=True)))
    chosen = max(by_temperature, key=lambda t: sum(by_temperature[t]))
    print(f"chosen: {chosen} (largest sum)\n")
    print("| N | super images | aggregation | R@1 | R@5 | R@10 | R@100 | SumR | 95 % | MedR |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for grid in sizes:
        searcher = searchers["test", grid]
        for scoring in (Attention(chosen), Max(), Mean()):
            result = evaluate(searcher, queries["test"], scoring)
            m, (low, high) = result.metrics, result.ci95["SumR"]
            recalls = " | ".join(f"{m[k]:.1f}" for k in ("R@1", "R@5", "R@10", "R@100", "SumR"))
            print(
                f"| {grid} | {len(searcher.sides[0].vectors.load().features.vectors):,} | {scoring.name} | {recalls} | "
                f"{low:.0f} to {high:.0f} | {m['MedR']:g} |",
                flush=True,
            )
            results.append({"grid": grid, "aggregation": scoring.name, **m})
    (work / "results.json").write_text(json.dumps({"temperature": chosen, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    typer.run(main)
