"""Brings an index, or several, up to date with its corpus; made to be run by a schedule."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from jobs.encode_corpus import MAX_FAILED, FrameRate, GpusPerEncoder, MaxFailed, target
from qasir.encoding.options import EncodeOptions, ReindexOptions
from qasir.errors import NoIndexError
from qasir.options import options_of

if TYPE_CHECKING:
    from qasir.encoding.corpus_config import IndexConfig
    from qasir.encoding.reindex import ReindexSummary
    from qasir.index.index import Index
    from qasir.index.lease import Holding
    from qasir.index.recovery import Repaired
    from qasir.video.corpus import Corpus


def reindex(
    *,
    index: Annotated[str | None, typer.Option(help="The index: its corpus and encoder spec are read from it.")] = None,
    videos: Annotated[
        str | None,
        typer.Option(help="What to list, under the same root.", show_default="what the index was made from"),
    ] = None,
    frame_rate: FrameRate = None,
    config: Annotated[
        Path | None, typer.Option(help="The corpus.yaml of several indexes, instead of --index and --videos.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done and change nothing.")] = False,
    options: ReindexOptions,
    encode: EncodeOptions,
    max_failed: MaxFailed = MAX_FAILED,
    gpus_per_encoder: GpusPerEncoder = None,
    as_json: Json = False,
    given: Given,
) -> None:
    """Encode what is new or changed, delete what is gone, compact, tag the version, and drop old ones."""
    from jobs.progress import EncodingProgress
    from pipelines.reindex import reindex_corpus
    from qasir.encoding.corpus_config import load_corpus_config
    from qasir.encoding.failures import too_many_failed
    from qasir.encoding.reindex import check_from_videos, plan_reindex
    from qasir.index.index import Index
    from qasir.index.recovery import open_damaged
    from qasir.video.corpus import list_videos

    if plan:
        unused = [option.field for option in options_of(EncodeOptions)]
        unused += ["keep_versions_for", "repair", "max_failed", "gpus_per_encoder"]
        given.refuse(unused, "--plan encodes and drops nothing")
    if config is not None:
        given.refuse(["index", "videos", "frame_rate"], "--config names the videos and the indexes")
        loaded = load_corpus_config(config)
        corpus = list_videos(loaded.videos, rate=loaded.rate)
        if options.repair:
            indexes = [_mended_or_made(entry, corpus, gpus_per_encoder) for entry in loaded.indexes]
        else:
            indexes = [_configured(entry, corpus, gpus_per_encoder, may_create=not plan) for entry in loaded.indexes]
    elif index is not None:
        found = open_damaged(index) if options.repair else Index.open(index)
        check_from_videos(found)
        corpus = list_videos(videos if videos is not None else found.corpus_source, rate=frame_rate)
        indexes = [found]
    else:
        raise typer.BadParameter("give --index or --config")
    for one in indexes:
        one.check_root(corpus.root)
    if plan:
        summaries = [plan_reindex(corpus, one, options) for one in indexes]
    else:
        with EncodingProgress() as progress:
            summaries = reindex_corpus(
                corpus, indexes, options, encode, gpus_per_encoder=gpus_per_encoder, on_progress=progress.show
            )
    for one, summary in zip(indexes, summaries, strict=True):
        _print(summary, one.uri, plan=plan)
    if as_json:
        print_json(_facts(indexes, summaries, several=config is not None))
    if any(too_many_failed(summary, max_failed) for summary in summaries) and not plan:
        raise typer.Exit(1)


def _configured(entry: "IndexConfig", corpus: "Corpus", gpus_per_encoder: float | None, *, may_create: bool) -> "Index":
    """An index of a corpus.yaml; one that is not there yet is made, since the file asks for it."""
    from pipelines.cluster import encoder_device
    from qasir.encoding.prepare import check_options
    from qasir.index.index import Index

    if not may_create:
        index = Index.open(entry.uri)
    else:
        device = partial(encoder_device, gpus_per_encoder)
        index = Index.find(entry.uri) or target(entry, corpus, device, named=True).index
    check_options(entry, index)
    return index


def _mended_or_made(entry: "IndexConfig", corpus: "Corpus", gpus_per_encoder: float | None) -> "Index":
    from qasir.encoding.prepare import check_options
    from qasir.index.recovery import open_damaged

    try:
        index = open_damaged(entry.uri)
    except NoIndexError:
        return _configured(entry, corpus, gpus_per_encoder, may_create=True)
    check_options(entry, index)
    return index


def _print(summary: "ReindexSummary", uri: str, *, plan: bool) -> None:
    from jobs.progress import decoder_lines, failure_lines

    would = "would be " if plan else ""
    say(
        f"{uri}: {summary.new} new, {summary.changed} changed, {summary.retried} failed before: {would}encoded; "
        f"{summary.removed} {would}removed; {summary.unchanged} unchanged"
    )
    if summary.failed:
        say(f"{summary.failed} failed")
    for line in [*failure_lines(summary), *decoder_lines(summary)]:
        say(line)
    if summary.repaired is not None:
        say(_mended(summary.repaired))
    if plan:
        say(_held(summary.holding))
    else:
        say(f"version {summary.version}, {summary.seconds:.1f} s")
        if summary.throughput is not None and summary.throughput["bounds"] is not None:
            say(summary.throughput["bounds"])


def _mended(done: "Repaired") -> str:
    files = f" ({', '.join(done.manifests)})" if done.manifests else ""
    return (
        f"repaired: {len(done.manifests)} manifests deleted{files}, {done.fragments} fragments given up, "
        f"{len(done.indexes)} indexes dropped, {done.videos} videos encoded again"
    )


def _held(holding: "Holding | None") -> str:
    if holding is None:
        return "no run has held it yet"
    said = (
        f"{holding.job} on {holding.holder}, epoch {holding.epoch}, last beat {holding.last_beat:%Y-%m-%d %H:%M:%S} UTC"
    )
    if holding.state == "free":
        return f"held by nobody; last by {said}"
    return f"held by {said}" if holding.state == "held" else f"perhaps held, which cannot be seen from here, by {said}"


def _facts(indexes: "list[Index]", summaries: "list[ReindexSummary]", *, several: bool) -> dict[str, Any]:
    """The facts of one index; of several their sums, the newest version, and the facts of each."""
    each = [asdict(summary) for summary in summaries]
    if not several:
        return each[0]
    counts = ("new", "changed", "retried", "removed", "unchanged", "failed", "failed_again", "stale")
    sums = {name: sum(facts[name] for facts in each) for name in counts}
    return {
        **sums,
        "seconds": max(facts["seconds"] for facts in each),
        "version": max((facts["version"] for facts in each if facts["version"]), default=None),
        "indexes": [{"index": index.uri, **facts} for index, facts in zip(indexes, each, strict=True)],
    }


app = job(reindex)

if __name__ == "__main__":
    run(app)
