"""Brings an index, or several, up to date with its corpus; made to be run by a schedule."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.command_line import Json, duration, job
from jobs.console import print_json, run
from jobs.encode_corpus import CommitEvery, DecodeTimeout, GpusPerEncoder, target
from jobs.progress import EncodingProgress, failures_line
from pipelines.encode import EncodeOptions
from pipelines.reindex import ReindexOptions, ReindexSummary, plan_reindex, reindex_corpus
from qasir.encoding.corpus_config import IndexConfig, load_corpus_config
from qasir.encoding.prepare import check_options
from qasir.index.index import Index
from qasir.video.corpus import Corpus, list_videos


def reindex(
    index: Annotated[str | None, typer.Option(help="The index: its corpus and encoder spec are read from it.")] = None,
    videos: Annotated[
        str | None,
        typer.Option(help="What to list, under the same root.", show_default="what the index was made from"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The corpus.yaml of several indexes, instead of --index and --videos.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be done and change nothing.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed videos again, changed or not.")
    ] = False,
    max_removed: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest share of an index that may be removed.")
    ] = 0.1,
    keep_versions_for: Annotated[
        timedelta, typer.Option(parser=duration, metavar="TIME", help="Drop table versions older than this.")
    ] = "7d",  # type: ignore[assignment]
    allow_partial: Annotated[bool, typer.Option(help="Keep what decodes of a damaged video.")] = False,
    commit_every: CommitEvery = "30s",  # type: ignore[assignment]
    decode_timeout: DecodeTimeout = "2m",  # type: ignore[assignment]
    gpus_per_encoder: GpusPerEncoder = None,
    as_json: Json = False,
) -> None:
    """Encode what is new or changed, delete what is gone, compact, tag the version, and drop old ones."""
    encode = EncodeOptions(
        allow_partial=allow_partial,
        commit_every_s=commit_every.total_seconds(),
        decode_timeout_s=decode_timeout.total_seconds(),
        gpus_per_encoder=gpus_per_encoder,
    )
    options = ReindexOptions(retry_failed, max_removed, keep_versions_for, encode)
    if config is not None:
        if index is not None or videos is not None:
            raise typer.BadParameter("--config names the videos and the indexes: leave out --index and --videos")
        loaded = load_corpus_config(config)
        corpus = list_videos(loaded.videos)
        indexes = [_configured(entry, corpus, encode, may_create=not plan) for entry in loaded.indexes]
    elif index is not None:
        found = Index.open(index)
        corpus = list_videos(videos if videos is not None else found.corpus_source)
        indexes = [found]
    else:
        raise typer.BadParameter("give --index or --config")
    for one in indexes:
        one.check_root(corpus.root)
    if plan:
        summaries = [plan_reindex(corpus, one, options) for one in indexes]
    else:
        with EncodingProgress() as progress:
            summaries = reindex_corpus(corpus, indexes, options, on_progress=progress.show)
    for one, summary in zip(indexes, summaries, strict=True):
        _print(summary, one.uri, plan=plan)
    if as_json:
        print_json(_facts(indexes, summaries, several=config is not None))


def _configured(entry: IndexConfig, corpus: Corpus, encode: EncodeOptions, *, may_create: bool) -> Index:
    """An index of a corpus.yaml; one that is not there yet is made, since the file asks for it."""
    if not may_create:
        index = Index.open(entry.uri)
    else:
        index = Index.find(entry.uri) or target(entry, corpus, encode, named=True).index
    check_options(entry, index)
    return index


def _print(summary: ReindexSummary, uri: str, *, plan: bool) -> None:
    would = "would be " if plan else ""
    print(
        f"{uri}: {summary.new} new, {summary.changed} changed, {summary.retried} failed before: {would}encoded; "
        f"{summary.removed} {would}removed; {summary.unchanged} unchanged"
    )
    if summary.failed:
        print(f"{summary.failed} failed; {failures_line(summary.failures_by_kind)}")
    if not plan:
        print(f"version {summary.version}, {summary.seconds:.1f} s")


def _facts(indexes: list[Index], summaries: list[ReindexSummary], *, several: bool) -> dict[str, Any]:
    """The facts of one index; of several their sums, the newest version, and the facts of each."""
    each = [asdict(summary) for summary in summaries]
    if not several:
        return each[0]
    sums = {name: sum(facts[name] for facts in each) for name in ("new", "changed", "removed", "unchanged", "failed")}
    return {
        **sums,
        "seconds": max(facts["seconds"] for facts in each),
        "version": max((facts["version"] for facts in each if facts["version"]), default=None),
        "indexes": [{"index": index.uri, **facts} for index, facts in zip(indexes, each, strict=True)],
    }


app = job(reindex)

if __name__ == "__main__":
    run(app)
