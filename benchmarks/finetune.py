"""Fine-tuning on the demo benchmark: both recipes against zero-shot, and what each part is worth.

    python benchmarks/finetune.py --work build/demo_benchmark [--grid 2 --grid 3] [--only NAME ...]

Trained on a thousand videos of one seed, every choice made on the validation set, reported on the test set. Sets,
indexes and checkpoints are kept in --work: a second run trains nothing again.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from demo_sets import SETS, TRAINING, demo_index, render_set

from pipelines.finetune import finetune
from qasir.evaluation.evaluate import Evaluation, evaluate
from qasir.evaluation.metrics import paired_difference
from qasir.evaluation.query import Query
from qasir.evaluation.query_files import read_queries
from qasir.evaluation.tuning import chosen
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.methods.coarse_to_fine import CoarseToFine
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import made
from qasir.retrieval.opening import open_index
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.searcher import Searcher
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Split

GATE = 0.01
"""EERCF's gate temperature, better on validation than the default of 0.1, which blurs what is one moment of many."""
ADAPTERS = Architecture(temporal=False)
TEMPORAL = Architecture(text_adapter=False, image_adapter=False)


@dataclass(frozen=True)
class Run:
    """One line of the table."""

    name: str
    recipe: Recipe
    architecture: Architecture


RUNS = (
    Run("qasir", Recipe(), Architecture()),
    Run("qasir, adapters only", Recipe(), ADAPTERS),
    Run("qasir, temporal encoder only", Recipe(), TEMPORAL),
    Run("qasir, mean", Recipe(aggregation="mean"), Architecture()),
    Run("qasir, max", Recipe(aggregation="max"), Architecture()),
    Run("eercf", Recipe("eercf", gate_temperature=GATE), Architecture()),
    Run("eercf, without Pearson", Recipe("eercf", gate_temperature=GATE, pearson=False), Architecture()),
    Run("eercf, adapters only", Recipe("eercf", gate_temperature=GATE), ADAPTERS),
    Run("eercf, temporal encoder only", Recipe("eercf", gate_temperature=GATE), TEMPORAL),
)
TWO_STAGE = CoarseToFine("super-image", 50, ("super-image", "cell"))


def main(
    work: Annotated[Path, typer.Option(help="Folder for videos, indexes and checkpoints, kept between runs.")] = Path(
        "build/demo_benchmark"
    ),
    grid: Annotated[list[int] | None, typer.Option(help="N.", show_default="2 and 3")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Names of runs.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
) -> None:
    sets = {**SETS, **TRAINING}
    for name in sets:
        render_set(work, name)
    queries = {name: read_queries(work / name / "queries.jsonl") for name in sets}
    results = []
    for n in grid or (2, 3):
        indexes = {name: demo_index(work, name, n, cells=True) for name in sets}
        results += compare(work, n, indexes, queries, only, seed)
    (work / "finetune.json").write_text(json.dumps(results, indent=2) + "\n")


def compare(
    work: Path, grid: int, indexes: dict[str, Searcher], queries: dict[str, list[Query]], only: list[str] | None,
    seed: int,
) -> list[Any]:  # fmt: skip
    """Prints and returns the table of one N."""
    print(f"\nN = {grid}: {len(queries['train'])} training queries, {len(queries['test'])} test queries\n")
    print(
        "| | R@1 | R@5 | R@10 | R@100 | SumR (95 %) | over zero-shot | parameters | epochs (best) | seconds "
        "| + GFLOPs a video | + a query |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    test, validation = indexes["test"], indexes["validation"]
    zero: dict[str, Evaluation] = {}
    for name in ("attention", "mean", "max", "tib"):
        scoring = chosen(validation, queries["validation"], made(name))
        zero[name] = evaluate(test, queries["test"], scoring)
        line(f"zero-shot, {name}{_at(scoring)}", zero[name], None)
    zero["two-stage"] = evaluate(test, queries["test"], TWO_STAGE)
    line("zero-shot, two-stage", zero["two-stage"], None)
    rows = []
    for run in RUNS:
        if only and run.name not in only:
            continue
        settings = Settings(recipe=run.recipe, architecture=run.architecture, seed=seed)
        folder = work / "finetuned" / f"n{grid} {run.name} {seed}".replace(", ", "_").replace(" ", "_")
        trained = finetune(
            Split.of(indexes["train"], queries["train"]), Split.of(validation, queries["validation"]), settings, folder
        )
        tuned = {n: open_index(indexes[n].side.index.uri, finetuned=str(folder)) for n in ("validation", "test")}
        scoring = chosen(tuned["validation"], queries["validation"], run.recipe.scoring)
        result = evaluate(tuned["test"], queries["test"], scoring)
        rows.append(line(run.name + _at(scoring), result, zero["attention"], trained, zero["attention"]))
        if run.recipe.name == "eercf":
            staged = evaluate(tuned["test"], queries["test"], replace(TWO_STAGE, **scoring.numbers()))
            rows.append(line(f"{run.name}, two-stage", staged, zero["two-stage"], trained, zero["two-stage"]))
    return rows


def _at(method: Method) -> str:
    return "".join(f", {value:g}" for value in method.numbers().values())


def line(
    name: str, result: Evaluation, base: Evaluation | None, trained: dict[str, Any] | None = None,
    cost_base: Evaluation | None = None,
) -> dict[str, Any]:  # fmt: skip
    m, (low, high) = result.metrics, result.ci95["SumR"]
    recalls = " | ".join(f"{m[k]:.1f}" for k in ("R@1", "R@5", "R@10", "R@100"))
    row: dict[str, Any] = {"name": name, "metrics": m, "ci95": result.ci95, "time": time.time()}
    more = " | | | | | "
    if base is not None and trained is not None and cost_base is not None:
        row["difference"] = value, least, most = paired_difference(result.rank, base.rank, result.groups)["SumR"]
        row["trained"] = {key: trained[key] for key in ("best", "zero_shot", "epochs", "parameters")}
        row["seconds"] = sum(record["seconds"] for record in trained["history"])
        row["gflops"] = (
            result.cost.encoding_per_video - cost_base.cost.encoding_per_video,
            result.cost.scoring_per_query - cost_base.cost.scoring_per_query,
        )
        more = (
            f" {value:+.1f} ({least:+.1f} to {most:+.1f}) | {trained['parameters']:,} | "
            f"{trained['epochs']} ({trained['best']['epoch']}) | {row['seconds']:.0f} | {row['gflops'][0]:.3g} | "
            f"{row['gflops'][1]:.3g}"
        )
    print(f"| {name} | {recalls} | {m['SumR']:.1f} ({low:.0f} to {high:.0f}) |{more} |", flush=True)
    return row


if __name__ == "__main__":
    typer.run(main)
