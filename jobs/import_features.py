"""Makes an index from features of frames that were published, without their videos."""

from dataclasses import asdict
from typing import Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say
from jobs.encode_corpus import MAX_FAILED, MaxFailed
from qasir.encoding.import_options import ImportOptions


def import_frame_features(
    *,
    features: Annotated[
        str,
        typer.Option(help="An HDF5 file by video id, MS-SL's BigFile folder, or a folder of such, or of .npz or .npy."),
    ],
    index: Annotated[str, typer.Option(help="Folder or object-store URI of the index; made if it is not there.")],
    options: ImportOptions,
    max_failed: MaxFailed = MAX_FAILED,
    as_json: Json = False,
) -> None:
    """Import new and changed features of frames into an index. Nothing is deleted; run it again to go on where it
    stopped."""
    from jobs.progress import EncodingProgress, failure_lines
    from pipelines.import_features import import_features
    from qasir.encoding.failures import too_many_failed
    from qasir.encoding.feature_corpus import FeatureCorpus
    from qasir.encoding.prepare_import import prepare_import

    found = FeatureCorpus(features, options)
    opened = prepare_import(found, index)
    with EncodingProgress() as progress:
        summary = import_features(found, opened, on_progress=progress.show)
    say(f"{summary.encoded} imported, {summary.failed} failed, {summary.unchanged} unchanged in {opened.uri}")
    for line in failure_lines(summary):
        say(line)
    spec = opened.spec
    size = f"features of {spec.embedding_dim} dimensions, {spec.features}"
    if summary.encoded:
        say(f"{summary.super_images:,} rows of {size} in {summary.seconds:.1f} s")
    if spec.grid > 1:
        say(f"a row stands in for a super image of {spec.grid} x {spec.grid} frames, which no model has seen")
    if not spec.has_model:
        say(f"{spec.model} is only a label: search by --like, or by features of queries")
    if as_json:
        print_json({**asdict(summary), "index": opened.uri, "spec": asdict(spec), "texts": spec.has_model})
    if too_many_failed(summary, max_failed):
        raise typer.Exit(1)


app = job(import_frame_features)

if __name__ == "__main__":
    run(app)
