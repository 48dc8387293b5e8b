"""Fine-tunes small modules on a frozen VLM's embeddings, from an index's tables and a query file."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from jobs.query_features import check_query_features, encode_given, told_of
from qasir.options import Doc, Flag, Shown, refuse_useless
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.query_features import QueryFeatureOptions
from qasir.retrieval.recipe import Recipe
from qasir.training.finetune.settings import Settings

if TYPE_CHECKING:
    from qasir.training.finetune.task import Split


@dataclass(frozen=True)
class Data:
    """What is trained and validated on, and where the result goes."""

    index: Annotated[str, Doc("The index of the training videos.")]
    queries: Annotated[Path, Doc("Training queries.")]
    val_index: Annotated[str, Doc("The index of the validation videos.")]
    val_queries: Annotated[Path, Doc("Validation queries.")]
    output: Annotated[Path, Doc("Folder of the checkpoint; a killed training there goes on.")]
    query_format: Annotated[str, Doc("Of both query files."), Flag("--format")] = "auto"
    strip_prefix: Annotated[
        str, Doc("What to leave out at the beginning of video ids of queries, v_ say."), Shown("nothing")
    ] = ""

    def splits(self, features: QueryFeatureOptions = QueryFeatureOptions()) -> "tuple[Split, Split]":
        """To train on, and to validate on."""
        return self._split(self.index, self.queries, features), self._split(self.val_index, self.val_queries, features)

    def _split(self, index: str, queries: Path, features: QueryFeatureOptions) -> "Split":
        from qasir.evaluation.query_files import read_query_file
        from qasir.retrieval.opening import open_searcher
        from qasir.training.finetune.task import Split

        asked = read_query_file(queries, self.query_format, strip_prefix=self.strip_prefix).queries
        searcher = open_searcher([index], encode=encode_given(features, asked))
        return Split.of(searcher, asked, told_of(features))


def finetune(
    *,
    data: Data,
    recipe: Recipe,
    adapters: Annotated[bool, typer.Option(help="Adapters on texts and super images.")] = Architecture.text_adapter,
    architecture: Architecture,
    settings: Settings,
    features: QueryFeatureOptions,
    given: Given,
    workers: Annotated[
        int, typer.Option(min=1, help="Ray Train workers; each takes a GPU where there are enough.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Train on the queries of one index, keep what is best on the queries of another."""
    from pipelines.finetune import finetune as train

    check_query_features(features, given, 1)
    architecture = replace(architecture, text_adapter=adapters, image_adapter=adapters)
    for options in (recipe, architecture):
        refuse_useless(options, given.options.keys())
    settings = replace(settings, recipe=recipe, architecture=architecture)
    told: list[dict[str, Any]] = []

    def tell(record: dict[str, Any]) -> None:
        told.append(record)
        say(epoch_line(told, settings.epochs))

    result = train(*data.splits(features), settings, data.output, workers=workers, on_epoch=tell)
    best, before = result["best"], result["zero_shot"]
    say(
        f"best epoch {best['epoch']}: validation SumR {best['SumR']:.1f}, zero-shot {before['SumR']:.1f} "
        f"({result['parameters']:,} parameters, {result['seconds']:.0f} s)"
    )
    say(f"checkpoint: {data.output}")
    if as_json:
        facts = {name: value for name, value in result.items() if name != "history"}
        print_json({**facts, "output": str(data.output)})


def epoch_line(history: list[dict[str, Any]], epochs: int) -> str:
    """One line on the last epoch: loss, validation SumR, time left."""
    from qasir.training.epochs import seconds_left

    record = history[-1]
    if record["epoch"] == 0:
        return f"zero-shot     validation SumR {record['SumR']:6.1f}  R@1 {record['R@1']:5.1f}"
    left = seconds_left(history, epochs)
    rest = "" if math.isnan(left) else f"  at most {left:.0f} s left"
    return (
        f"epoch {record['epoch']:3} of {epochs}  loss {record['loss']:.4f}  validation SumR {record['SumR']:6.1f}  "
        f"R@1 {record['R@1']:5.1f}  {record['seconds']:.1f} s{rest}"
    )


app = job(finetune)

if __name__ == "__main__":
    run(app)
