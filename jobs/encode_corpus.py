"""Encodes the new and changed videos of a corpus into an index, or into several at once."""

import logging
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import Json, duration, job
from jobs.console import print_json, run
from jobs.progress import EncodingProgress, failures_line, throughput_lines
from pipelines.cluster import encoder_device
from pipelines.encode import EncodeOptions, EncodeSummary, Target, encode_corpus
from qasir.demo.render import is_demo_video
from qasir.encoding.corpus_config import IndexConfig, load_corpus_config
from qasir.encoding.prepare import prepare
from qasir.errors import ModelError, SpecError
from qasir.video.corpus import Corpus, list_videos

log = logging.getLogger("qasir")

_ATTEMPTS_FOR_A_SHARE = 20

CommitEvery = Annotated[
    timedelta, typer.Option(parser=duration, metavar="TIME", help="At most this much work is lost by a kill.")
]
DecodeTimeout = Annotated[
    timedelta,
    typer.Option(
        parser=duration, metavar="TIME", help="Give up on a video whose decoding makes no progress for so long."
    ),
]
GpusPerEncoder = Annotated[
    float | None,
    typer.Option(
        help="GPUs, or the share of one, that an encoder takes; 0 for CPUs.", show_default="1 where there are GPUs"
    ),
]


def encode(
    videos: Annotated[
        str | None, typer.Option(help="Folder (searched recursively), glob, or manifest (.csv, .jsonl, .parquet).")
    ] = None,
    index: Annotated[
        str | None, typer.Option(help="Folder or object-store URI of the index; made if it is not there.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A corpus.yaml with videos and indexes, instead of the options up to --thumbnails."),
    ] = None,
    model: Annotated[str, typer.Option(help="open_clip model name, hf-hub:ID or local-dir:PATH.")] = "qasir-tiny",
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag or the path of a checkpoint.")] = None,
    grid: Annotated[int, typer.Option(help="N: a super image holds N x N frames.")] = 3,
    fps: Annotated[float, typer.Option(help="Frames sampled per second of video.")] = 1.0,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side of a super image.", show_default="the model's")
    ] = None,
    fit: Annotated[str, typer.Option(help="How a frame fills its cell: squash or letterbox.")] = "squash",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    cells: Annotated[bool, typer.Option(help="Store an embedding for each cell too.")] = True,
    thumbnails: Annotated[bool, typer.Option(help="Store a small JPEG of each super image.")] = True,
    allow_partial: Annotated[bool, typer.Option(help="Keep what decodes of a damaged video.")] = False,
    max_failed: Annotated[float, typer.Option(help="Largest share of failed attempts, from 20 attempts up.")] = 0.1,
    commit_every: CommitEvery = "30s",  # type: ignore[assignment]
    decode_timeout: DecodeTimeout = "2m",  # type: ignore[assignment]
    gpus_per_encoder: GpusPerEncoder = None,
    as_json: Json = False,
) -> None:
    """Encode new and changed videos into an index. Nothing is deleted; run it again to go on where it stopped."""
    options = EncodeOptions(
        allow_partial=allow_partial,
        commit_every_s=commit_every.total_seconds(),
        decode_timeout_s=decode_timeout.total_seconds(),
        gpus_per_encoder=gpus_per_encoder,
    )
    if config is not None:
        if videos is not None or index is not None:
            raise typer.BadParameter("--config names the videos and the indexes: leave out --videos and --index")
        loaded = load_corpus_config(config)
        corpus, wanted = list_videos(loaded.videos), loaded.indexes
    elif videos is None or index is None:
        raise typer.BadParameter("give --videos and --index, or --config")
    else:
        corpus = list_videos(videos)
        one = IndexConfig(
            model, pretrained, grid, fps, image_size, fit, precision, cells, thumbnails, uri=index  # type: ignore[arg-type]
        )  # fmt: skip
        wanted = (one,)
    targets = [target(entry, corpus, options, named=config is not None) for entry in wanted]
    if any(t.source.model == "qasir-tiny" for t in targets) and not _is_demo(corpus):
        log.warning(
            "qasir-tiny knows only the demo's pictograms; for real footage choose a model, "
            "e.g. --model ViT-B-32 --pretrained laion2b_s34b_b79k"
        )
    with EncodingProgress() as progress:
        summaries = encode_corpus(corpus, targets, options, on_progress=progress.show)
    for done, summary in zip(targets, summaries, strict=True):
        _print(summary, done.index.uri)
    for line in throughput_lines(
        summaries[0].throughput,
        super_images=sum(s.super_images for s in summaries),
        video_seconds=max(s.video_seconds for s in summaries),
    ):
        print(line)
    if as_json:
        each = [{"index": done.index.uri, **asdict(s)} for done, s in zip(targets, summaries, strict=True)]
        print_json(asdict(summaries[0]) if config is None else {"indexes": each})
    if any(_too_many_failed(summary, max_failed) for summary in summaries):
        raise typer.Exit(1)


def target(entry: IndexConfig, corpus: Corpus, options: EncodeOptions, *, named: bool) -> Target:
    """Open or make one index, and find its model. With several, errors name the one (`named`)."""
    try:
        found = prepare(entry, entry.uri, corpus, device_type=lambda: encoder_device(options.gpus_per_encoder))
    except (SpecError, ModelError) as error:
        raise type(error)(f"{entry.uri}: {error}" if named else str(error)) from None
    return Target(*found)


def _is_demo(corpus: Corpus) -> bool:
    return all(is_demo_video(video.uri) for video in corpus.videos[:3])


def _print(summary: EncodeSummary, uri: str) -> None:
    print(f"{summary.encoded} encoded, {summary.failed} failed, {summary.unchanged} unchanged in {uri}")
    if summary.failures_by_kind:
        print(failures_line(summary.failures_by_kind))
    if summary.encoded:
        rate = summary.video_seconds / summary.seconds
        print(
            f"{summary.super_images} super images from {summary.video_seconds:,.0f} s of video in {summary.seconds:.1f} s "
            f"({rate:,.0f} video-seconds a second)"
        )


def _too_many_failed(summary: EncodeSummary, max_failed: float) -> bool:
    attempts = summary.encoded + summary.failed
    if attempts >= _ATTEMPTS_FOR_A_SHARE:
        return summary.failed > max_failed * attempts
    return attempts > 0 and summary.encoded == 0


app = job(encode)

if __name__ == "__main__":
    run(app)
