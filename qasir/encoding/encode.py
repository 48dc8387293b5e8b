"""`qasir.encode`: encodes videos into an index on this machine, without Ray."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from qasir.encoding.models import GPU_CALLS, Target, cpu_batch, gflops_an_image, gpu_batch, load_models
from qasir.encoding.options import EncodeOptions, EncoderOptions
from qasir.encoding.plain_loop import PlainLoop
from qasir.encoding.prepare import prepare
from qasir.encoding.run import EncodeSummary, OnProgress, ignore, run_encoding
from qasir.video.corpus import list_files, list_videos
from qasir.video.hardware import CPU, check_gpus_here


def encode(
    videos: str | Path | Sequence[str | Path],
    index: str | Path,
    *,
    model: EncoderOptions = EncoderOptions(),
    options: EncodeOptions = EncodeOptions(),
    on_progress: OnProgress | None = None,
    isolate: bool = True,
) -> EncodeSummary:
    """Encode the new and changed ones of these videos, and those whose failure may pass; an index that is not there is
    made.

    videos: a folder (searched recursively), a glob or a manifest, as the jobs take them, or a list of paths, whose ids
    are relative to the folder that they have in common, without suffix; an index that is to grow by files elsewhere is
    made from a folder above them or a manifest. model: what decides the rows of a new index, and must be so of one that
    is there. on_progress: called after every batch. isolate: decode in a child process, so
    that a file that hangs or kills its decoder is a failed row (kinds `timed_out` and `crashed`); False decodes in this
    process, without limits of time and memory.

    Videos that cannot be read end as failed rows, never as an exception. Raises CorpusError for videos that cannot be
    listed, SpecError and ModelError for options that do not go together or do not fit the index, IndexHeldError if
    another job writes it. Killed at any moment and called again, it goes on from its last commit.
    """
    corpus = list_videos(str(videos)) if isinstance(videos, str | Path) else list_files(videos)
    target = Target(*prepare(model, str(index), corpus))
    stages = plain_stages([target], options, isolate=isolate)
    (summary,) = run_encoding(
        corpus, [target.index], stages, options, job="qasir.encode", on_progress=on_progress or ignore
    )
    return summary


def plain_stages(targets: Sequence[Target], options: EncodeOptions, *, isolate: bool = True) -> PlainLoop:
    """The plain loop for these indexes, each with the model that made it. Raises SpecError when a GPU must decode and
    there is none."""
    has_gpu = torch.cuda.is_available()
    check_gpus_here(options.decoder)
    if options.decoder == "auto" and not has_gpu:
        options = replace(options, decoder=CPU)
    batch = (gpu_batch if has_gpu else cpu_batch)([1.0] * len(targets), gflops_an_image(targets))
    threads = 0 if has_gpu else torch.get_num_threads()
    indexes = [target.index for target in targets]
    sources, specs = [target.source for target in targets], [index.spec for index in indexes]
    calls = GPU_CALLS if has_gpu else 1
    return PlainLoop(
        indexes,
        lambda: load_models(sources, specs),
        options,
        batch=batch,
        calls=calls,
        encoder_threads=threads,
        isolate=isolate,
    )
