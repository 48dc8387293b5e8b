"""Encodes the new and changed videos of a corpus into an index, or into several at once."""

import logging
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.command_line import Given, Json, job
from jobs.console import print_json, run, say
from qasir.encoding.options import EncodeOptions, EncoderOptions, check_values
from qasir.errors import ModelError, SpecError
from qasir.options import options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qasir.encoding.corpus_config import IndexConfig
    from qasir.encoding.models import Target
    from qasir.encoding.run import EncodeSummary
    from qasir.video.corpus import Corpus

log = logging.getLogger("qasir")

MAX_FAILED = 0.1
MaxFailed = Annotated[
    float, typer.Option(help="Largest share of new and changed files that may fail, from 20 of them up.")
]
FrameRate = Annotated[
    str | None,
    typer.Option(help="Pictures a second, where the videos are folders of numbered pictures: 3 or 30000/1001."),
]
GpusPerEncoder = Annotated[
    float | None,
    typer.Option(
        help="GPUs, or the share of one, that an encoder takes; 0 for CPUs.", show_default="1 where there are GPUs"
    ),
]


def encode(
    *,
    videos: Annotated[
        str | None, typer.Option(help="Folder (searched recursively), glob, or manifest (.csv, .jsonl, .parquet).")
    ] = None,
    frame_rate: FrameRate = None,
    index: Annotated[
        str | None, typer.Option(help="Folder or object-store URI of the index; made if it is not there.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A corpus.yaml with videos and indexes, instead of the options up to --thumbnails."),
    ] = None,
    encoder: EncoderOptions,
    options: EncodeOptions,
    max_failed: MaxFailed = MAX_FAILED,
    gpus_per_encoder: GpusPerEncoder = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Look at a sample of the videos for up to a minute, print what encoding would take, also with other "
            "settings, and write nothing.",
        ),
    ] = False,
    as_json: Json = False,
    given: Given,
) -> None:
    """Encode new and changed videos into an index. Nothing is deleted; run it again to go on where it stopped."""
    from qasir.encoding.corpus_config import IndexConfig, load_corpus_config
    from qasir.encoding.failures import too_many_failed
    from qasir.video.corpus import list_videos

    if config is not None:
        named = ["videos", "frame_rate", "index", *(option.field for option in options_of(EncoderOptions))]
        given.refuse(named, "--config names the videos, the indexes and their encoders")
        loaded = load_corpus_config(config)
        corpus, wanted = list_videos(loaded.videos, rate=loaded.rate), loaded.indexes
    elif videos is None or index is None:
        raise typer.BadParameter("give --videos and --index, or --config")
    else:
        corpus, wanted = list_videos(videos, rate=frame_rate), (IndexConfig(**asdict(encoder), uri=index),)
    for entry in wanted:
        with _naming(entry, named=config is not None):
            check_values(entry)
    if estimate:
        given.refuse(["max_failed", "commit_every_s"], "--estimate encodes nothing")
    elif _has_work(wanted):  # for which Ray starts meanwhile
        from pipelines.cluster import check_gpus_early, connect_early

        check_gpus_early(options.decoder)
        connect_early()
    from jobs.progress import EncodingProgress, decoder_lines, throughput_lines
    from pipelines.cluster import encoder_device
    from pipelines.encode import encode_corpus
    from pipelines.estimate import device_without_starting

    of_encoders = partial(device_without_starting if estimate else encoder_device, gpus_per_encoder)
    targets = [target(entry, corpus, of_encoders, named=config is not None) for entry in wanted]
    if any(t.source.model == "qasir-tiny" for t in targets) and not _is_demo(corpus):
        log.warning(
            "qasir-tiny knows only the demo's pictograms; for real footage choose a model, "
            "e.g. --model ViT-B-32 --pretrained laion2b_s34b_b79k"
        )
    if estimate:
        _print_estimate(corpus, targets, options, gpus_per_encoder, as_json=as_json)
        return
    with EncodingProgress() as progress:
        summaries = encode_corpus(
            corpus, targets, options, gpus_per_encoder=gpus_per_encoder, on_progress=progress.show
        )
    for done, summary in zip(targets, summaries, strict=True):
        _print(summary, done.index.uri)
    for line in decoder_lines(summaries[0]):
        say(line)
    for line in throughput_lines(
        summaries[0].throughput,
        super_images=sum(s.super_images for s in summaries),
        video_seconds=max(s.video_seconds for s in summaries),
    ):
        say(line)
    if as_json:
        each = [{"index": done.index.uri, **asdict(s)} for done, s in zip(targets, summaries, strict=True)]
        print_json(asdict(summaries[0]) if config is None else {"indexes": each})
    if any(too_many_failed(summary, max_failed) for summary in summaries):
        raise typer.Exit(1)


def _print_estimate(
    corpus: "Corpus",
    targets: "list[Target]",
    options: EncodeOptions,
    gpus_per_encoder: float | None,
    *,
    as_json: bool,
) -> None:
    from jobs.estimate_output import estimate_facts, print_estimate
    from pipelines.estimate import estimate_corpus
    from qasir.index.process import Process

    found = estimate_corpus(
        corpus, targets, options, gpus_per_encoder=gpus_per_encoder, before_s=Process.this().age_s()
    )
    uris = [each.index.uri for each in targets]
    print_estimate(found, uris)
    if as_json:
        print_json(estimate_facts(found, uris))


def target(entry: "IndexConfig", corpus: "Corpus", device: "Callable[[], str]", *, named: bool) -> "Target":
    """Open one index, or name a new one, and find its model. device: what encoders will run on. With several, errors
    name the one (`named`)."""
    from qasir.encoding.models import Target
    from qasir.encoding.prepare import prepare

    with _naming(entry, named=named):
        return Target(*prepare(entry, entry.uri, corpus, device_type=device))


@contextmanager
def _naming(entry: "IndexConfig", *, named: bool) -> "Iterator[None]":
    try:
        yield
    except (SpecError, ModelError) as error:
        raise type(error)(f"{entry.uri}: {error}" if named else str(error)) from None


def _has_work(wanted: "Sequence[IndexConfig]") -> bool:
    """Whether all of the corpus is surely to be encoded, as far as can be told before torch is imported."""
    from qasir.index.index import Index
    from qasir.vlm.names import may_be_resolved

    are_models = all(may_be_resolved(entry.model, entry.pretrained) for entry in wanted)
    return are_models and any(Index.find(entry.uri) is None for entry in wanted)


def _is_demo(corpus: "Corpus") -> bool:
    from qasir.demo.render import is_demo_video

    return all(is_demo_video(video.uri) for video in corpus.videos[:3])


def _print(summary: "EncodeSummary", uri: str) -> None:
    from jobs.progress import failure_lines

    say(f"{summary.encoded} encoded, {summary.failed} failed, {summary.unchanged} unchanged in {uri}")
    for line in failure_lines(summary):
        say(line)
    if summary.encoded:
        rate = summary.video_seconds / summary.seconds
        say(
            f"{summary.super_images} super images from {summary.video_seconds:,.0f} s of video in "
            f"{summary.seconds:.1f} s ({rate:,.0f} video-seconds a second)"
        )


app = job(encode)

if __name__ == "__main__":
    run(app)
