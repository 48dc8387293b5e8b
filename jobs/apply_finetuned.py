"""Applies the video side of a fine-tuned checkpoint over an index into a new one, which is then searched like any
other."""

import time
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say


def apply(
    index: Annotated[str, typer.Option(help="The index whose vectors to use.")],
    finetuned: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    output: Annotated[str, typer.Option(help="The index to write; what it has already is kept.")],
    as_json: Json = False,
) -> None:
    """Write an index with fine-tuned vectors. Run it again after re-indexing: only what changed is computed."""
    from tqdm import tqdm

    from qasir.encoding.run import tidy_after_kill, verify_after_kill
    from qasir.index.index import Index
    from qasir.index.lease import Run
    from qasir.retrieval.checkpoint import load_checkpoint
    from qasir.training.finetune.tuned_index import Applying

    since = time.perf_counter()
    applying = Applying(Index.open(index), load_checkpoint(finetuned), output)
    with (
        Run(applying.output, "apply_finetuned") as held,
        tqdm(unit="video", desc="applying", disable=None, leave=False) as bar,
    ):

        def tell(done: int, planned: int) -> None:
            bar.total, bar.n = planned, done
            bar.refresh()

        verify_after_kill(held)
        tidy_after_kill(held, [])  # what is half written is computed again
        counts = applying.run(held.writer, tell)
        held.counts = counts
    seconds = time.perf_counter() - since
    say(
        f"{counts['applied']} videos applied, {counts['unchanged']} unchanged, {counts['removed']} removed in "
        f"{output}, {seconds:.1f} s"
    )
    if counts["failed"]:
        say(f"failures: not_finite {counts['failed']}")
    if as_json:
        print_json({**counts, "seconds": seconds, "output": output})
    if counts["failed"] and not counts["applied"]:
        raise typer.Exit(1)


app = job(apply)

if __name__ == "__main__":
    run(app)
