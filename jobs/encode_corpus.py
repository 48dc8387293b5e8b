"""Encodes the new and changed videos of a corpus into an index."""

import logging
from dataclasses import asdict
from typing import Annotated

import typer
from tqdm import tqdm

from jobs.console import Json, job, print_json, run
from pipelines.encode import EncodeSummary, encode_corpus
from qasir.corpus import Corpus, list_videos
from qasir.demo.render import is_demo_video
from qasir.prepare import EncoderOptions, prepare

log = logging.getLogger("qasir")

_ATTEMPTS_FOR_A_SHARE = 20


def encode(
    videos: Annotated[
        str, typer.Option(help="Folder (searched recursively), glob, or manifest (.csv, .jsonl, .parquet).")
    ],
    index: Annotated[str, typer.Option(help="Folder or object-store URI of the index; made if it is not there.")],
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
    as_json: Json = False,
) -> None:
    """Encode new and changed videos into an index. Nothing is deleted; run it again to go on where it stopped."""
    corpus = list_videos(videos)
    options = EncoderOptions(model, pretrained, grid, fps, image_size, fit, precision, cells, thumbnails)  # type: ignore[arg-type]
    opened, source = prepare(options, index, corpus.root)
    if source.model == "qasir-tiny" and not _is_demo(corpus):
        log.warning(
            "qasir-tiny knows only the demo's pictograms; for real footage choose a model, "
            "e.g. --model ViT-B-32 --pretrained laion2b_s34b_b79k"
        )
    with tqdm(total=len(corpus.videos), unit="video", desc="encoding", disable=None) as bar:

        def show(done: int, planned: int) -> None:
            bar.total = planned
            bar.n = done
            bar.refresh()

        summary = encode_corpus(corpus, opened, source, allow_partial=allow_partial, on_progress=show)
    _print(summary, opened.uri)
    if as_json:
        print_json(asdict(summary))
    if _too_many_failed(summary, max_failed):
        raise typer.Exit(1)


def _is_demo(corpus: Corpus) -> bool:
    return all(is_demo_video(video.uri) for video in corpus.videos[:3])


def _print(summary: EncodeSummary, uri: str) -> None:
    print(f"{summary.encoded} encoded, {summary.failed} failed, {summary.unchanged} unchanged in {uri}")
    if summary.failures_by_kind:
        print("failures: " + ", ".join(f"{kind} {n}" for kind, n in sorted(summary.failures_by_kind.items())))
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
