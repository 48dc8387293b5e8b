"""Evaluates retrieval: ranks the videos of an index, or of two together, for every query of a file."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from jobs.options import MethodNumbers, Ranking, given_numbers
from jobs.query_features import check_query_features, encode_given
from qasir.errors import QueryError
from qasir.evaluation.metrics import DEFAULT_MV_EDGES
from qasir.evaluation.query_formats import FORMATS
from qasir.options import Doc, Flag, Shown, options_of
from qasir.retrieval.methods.asked import Numbers, asked, check_indexes, combined
from qasir.retrieval.methods.method import Method
from qasir.retrieval.methods.named import HYBRIDS, argument_of, flag_of
from qasir.retrieval.query_features import QueryFeatureOptions

if TYPE_CHECKING:
    from qasir.evaluation.evaluate import Evaluation
    from qasir.evaluation.query import Query
    from qasir.evaluation.query_files import QueryFile
    from qasir.index.spec import EncoderSpec
    from qasir.retrieval.searcher import Searcher
    from qasir.retrieval.text_encoder import Encode

log = logging.getLogger("qasir")

TEXT_TO_VIDEO, VIDEO_TO_TEXT = DIRECTIONS = ("text-to-video", "video-to-text")


@dataclass(frozen=True)
class Asking:
    """The queries, what is chosen on others first, and how they are counted."""

    queries: Annotated[Path, Doc("Query file.")]
    query_format: Annotated[str, Doc(f"{', '.join(FORMATS)}."), Flag("--format")] = "auto"
    strip_prefix: Annotated[
        str, Doc("What to leave out at the beginning of video ids of queries and lists, v_ say."), Shown("nothing")
    ] = ""
    moments_from: Annotated[
        Path | None,
        Doc("The benchmark's own release, to take moments from by video and text where --queries has none."),
    ] = None
    moments_format: Annotated[str, Doc("Of --moments-from.")] = "auto"
    validation_queries: Annotated[
        Path | None, Doc("Choose temperatures, and a hybrid's weight or depth, by SumR on these queries first.")
    ] = None
    validation_index: Annotated[
        tuple[str, ...], Doc("The index of the validation queries' videos, once per --index."), Shown("--index")
    ] = ()
    distributed: Annotated[bool, Doc("Score on Ray, for a corpus larger than one machine's memory.")] = False
    direction: Annotated[str, Doc("text-to-video, or video-to-text as trimmed benchmarks report it too.")] = (
        TEXT_TO_VIDEO
    )
    as_paragraphs: Annotated[
        bool, Doc("All sentences of a video as one query, as DiDeMo is scored."), Flag("--paragraphs")
    ] = False
    video_ids: Annotated[
        Path | None,
        Doc("Score over exactly these videos, one id a line; queries about others are left out."),
        Shown("all of the index"),
    ] = None
    missing: Annotated[str, Doc("Queries without a video in the index: skip them, or miss.")] = "skip"
    mv_edges: Annotated[str, Doc("Edges of the moment-to-video ratio bins.")] = ",".join(map(str, DEFAULT_MV_EDGES))
    nms: Annotated[
        float | None,
        Doc("Largest overlap (IoU, 0 to 1) of two moments of one video, where moments are ranked over the corpus."),
        Shown("any, as TVR is scored"),
    ] = None
    output: Annotated[Path | None, Doc("Folder for metrics.json, rankings.parquet and index.html.")] = None
    trec: Annotated[
        Path | None, Doc("Folder for run.txt and qrels.txt, as TREC's, for other evaluators: the first 1000 of each.")
    ] = None

    def read(self, path: Path) -> "QueryFile":
        """The queries of a file in this format, with their moments of elsewhere and joined where that was asked for."""
        from qasir.evaluation.joining import with_moments
        from qasir.evaluation.query import paragraphs
        from qasir.evaluation.query_files import read_query_file

        found = read_query_file(path, self.query_format, strip_prefix=self.strip_prefix)
        queries = found.queries
        if self.moments_from is not None:
            release = read_query_file(self.moments_from, self.moments_format, strip_prefix=self.strip_prefix)
            queries = with_moments(queries, release.queries, str(self.moments_from))
        return replace(found, queries=paragraphs(queries) if self.as_paragraphs else queries)

    def listed(self) -> list[str] | None:
        """The ids of the videos that count, as the index's are; None where all do."""
        from qasir.evaluation.video_list import read_video_ids

        return None if self.video_ids is None else read_video_ids(self.video_ids, strip_prefix=self.strip_prefix)


def evaluate_retrieval(
    ranking: Ranking,
    numbers: MethodNumbers,
    asking: Asking,
    features: QueryFeatureOptions,
    given: Given,
    top_k: Annotated[int | None, typer.Option(hidden=True, help="What --cascade-k was called in 0.1.")] = None,
    as_json: Json = False,
) -> None:
    """Rank every video for every query; print the metrics, and write them with a report to --output."""
    from jobs.evaluation_output import print_compared, print_evaluation, print_video_to_text
    from qasir.evaluation.evaluate import evaluate, evaluate_video_to_text, rankings_table
    from qasir.evaluation.report.page import render_report
    from qasir.evaluation.trec import Run
    from qasir.evaluation.tuning import check_choices, chosen
    from qasir.evaluation.video_list import Listed, about
    from qasir.files.whole import write_whole
    from qasir.retrieval.opening import open_searcher

    _check(asking, given)
    check_indexes(len(ranking.index), ranking.hybrid)
    check_query_features(features, given, len(ranking.index))
    if asking.validation_index and len(asking.validation_index) != len(ranking.index):
        raise QueryError(
            f"{len(asking.validation_index)} --validation-index for {len(ranking.index)} --index: give one for each"
        )
    query_file = asking.read(asking.queries)
    listed_ids = asking.listed()
    queries = query_file.queries if listed_ids is None else about(query_file.queries, listed_ids)
    own, spare = _apart(ranking.hybrid, _with_old_name(given_numbers(numbers), top_k, ranking.hybrid))
    others = _others(ranking.hybrid, spare)
    if spare and asking.direction == VIDEO_TO_TEXT:
        flags = ", ".join(map(flag_of, spare))
        raise QueryError(f"{flags}: --direction {VIDEO_TO_TEXT} compares --hybrid {ranking.hybrid} with no other")
    searcher = _opened(ranking, encode_given(features, queries), distributed=asking.distributed)
    method = asked([side.default for side in searcher.sides], ranking.aggregation, ranking.hybrid, own)
    if asking.distributed:
        _check_distributed(method)
    if asking.validation_queries is not None:
        check_choices(method, own)
        held_out = asking.read(asking.validation_queries).queries
        tuning = open_searcher(
            asking.validation_index or ranking.index, ranking.finetuned, encode=encode_given(features, held_out)
        )
        method = chosen(tuning, held_out, method, keep={*own, *argument_of(ranking.aggregation or "")})
        say(f"chosen on {asking.validation_queries}: {json.dumps(method.describe())}")
    listed = None
    if listed_ids is not None:
        listed = Listed.of(searcher, listed_ids, n_others=len(query_file.queries) - len(queries))
        searcher = listed.searcher
        say(f"{listed.sentence()}: {asking.video_ids}")
    read = {"query_file": query_file.to_dict(), "video_ids": None if listed is None else listed.to_dict()}
    if asking.direction == VIDEO_TO_TEXT:
        found = evaluate_video_to_text(searcher, queries, method)
        print_video_to_text(found)
        told = {**found.to_dict(), **read}
        _write(asking.output, told, found.rankings())
        if asking.trec is not None:
            Run.of_videos(found).write(asking.trec)
        if as_json:
            print_json(told)
        return
    options: dict[str, Any] = {"missing": asking.missing, "mv_edges": _edges(asking.mv_edges)}
    result = evaluate(searcher, queries, method, nms=asking.nms, **options)
    compared = _compare(searcher, queries, method, result, others, options) if ranking.hybrid else {}
    print_evaluation(result)
    if compared:
        print_compared(compared)
    told = {**facts(result, compared), **read}
    if asking.output is not None:
        _write(asking.output, told, rankings_table(result, searcher))
        title = f"Retrieval on {asking.queries.name}"
        page = render_report(
            result, searcher, title=title, compared=compared, notes=query_file.notes,
            over="" if listed is None else listed.sentence(),
        )  # fmt: skip
        write_whole(asking.output / "index.html", page)
        say(f"report: {asking.output / 'index.html'}")
    if asking.trec is not None:
        Run.of_texts(result, searcher).write(asking.trec)
        say(f"TREC run and qrels: {asking.trec}")
    if as_json:
        print_json(told)


def facts(result: "Evaluation", compared: "Mapping[str, Evaluation]") -> dict[str, Any]:
    """What `metrics.json` and --json hold of the results."""
    found = result.to_dict()
    if compared:
        keys = ("metrics", "ci95", "gflops", "scoring", "spec")
        found["compared"] = {name: {key: each.to_dict()[key] for key in keys} for name, each in compared.items()}
    return found


def _check(asking: Asking, given: Given) -> None:
    """Raises QueryError for options that do not go together."""
    if asking.direction not in DIRECTIONS:
        raise QueryError(f"direction {asking.direction!r}: choose one of {', '.join(DIRECTIONS)}")
    if asking.moments_from is None:
        given.refuse(["moments_format"], "it is the format of --moments-from, which is not given")
    if asking.validation_index and asking.validation_queries is None:
        raise QueryError("--validation-index goes with --validation-queries")
    if asking.direction == VIDEO_TO_TEXT:
        given.refuse(("missing", "mv_edges", "nms"), f"--direction {VIDEO_TO_TEXT} has no use for all that")


def _apart(hybrid: str | None, numbers: Numbers) -> tuple[Numbers, Numbers]:
    """(what is asked of the method, what is asked of the hybrids that it is compared with)."""
    if hybrid is None:
        return numbers, {}
    others = {option.field for name, kind in HYBRIDS.items() if name != hybrid for option in options_of(kind)}
    others -= {option.field for option in options_of(HYBRIDS[hybrid])}
    spare = {name: values for name, values in numbers.items() if name in others}
    return {name: values for name, values in numbers.items() if name not in spare}, spare


def _others(hybrid: str | None, spare: Numbers) -> dict[str, Method]:
    """The hybrids that the one asked for is compared with, by name. spare: numbers given for them."""
    if hybrid is None:
        return {}
    fields = {name: {option.field for option in options_of(kind)} for name, kind in HYBRIDS.items() if name != hybrid}
    return {
        name: combined(name, {field: values for field, values in spare.items() if field in own})
        for name, own in fields.items()
    }


def _with_old_name(numbers: Numbers, top_k: int | None, hybrid: str | None) -> Numbers:
    """--top-k was --cascade-k in 0.1, and still is for a release."""
    if top_k is None:
        return numbers
    if hybrid is None:
        raise QueryError("--top-k: of a --hybrid only, where it is called --cascade-k now")
    log.warning("--top-k is called --cascade-k now")
    if "top_k" in numbers:
        raise QueryError("--top-k is the old name of --cascade-k: leave it out")
    return {**numbers, "top_k": (top_k,)}


def _opened(ranking: Ranking, encode: "Callable[[EncoderSpec], Encode] | None", *, distributed: bool) -> "Searcher":
    from qasir.retrieval.opening import open_searcher

    if not distributed:
        return open_searcher(ranking.index, ranking.finetuned, encode=encode)
    from pipelines.score import DistributedRanker

    return open_searcher(ranking.index, ranking.finetuned, make_ranker=DistributedRanker, encode=encode)


def _check_distributed(method: Method) -> None:
    if not all(one.is_exact() for one in (method, *method.sides())):
        raise QueryError("--distributed scores every video exactly; it does not go with --recall and --rerank")


def _compare(
    searcher: "Searcher",
    queries: "Sequence[Query]",
    method: Method,
    result: "Evaluation",
    others: Mapping[str, Method],
    options: dict[str, Any],
) -> "dict[str, Evaluation]":
    """Each model alone and all combinations, by name. others: the combinations that were not asked for."""
    from qasir.evaluation.evaluate import evaluate

    found = {
        name: evaluate(searcher.alone(i), queries, method.sides()[i], over_corpus=False, **options)
        for i, name in enumerate(("large", "small"))
    }
    for name in HYBRIDS:
        found[name] = (
            result
            if name == method.name
            else evaluate(searcher, queries, others[name].with_sides(method.sides()), over_corpus=False, **options)
        )
    return found


def _write(output: Path | None, found: Mapping[str, Any], rankings: Any) -> None:
    """metrics.json and rankings.parquet."""
    from jobs.evaluation_output import json_text
    from qasir.files.whole import write_parquet, write_whole

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "metrics.json", json_text(found))
        write_parquet(output / "rankings.parquet", rankings)


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise QueryError(f"M/V edges {text!r}: give numbers with commas between, e.g. 0,0.2,0.4,1") from None


app = job(evaluate_retrieval)

if __name__ == "__main__":
    run(app)
