"""Makes the vector index with which `search_corpus.py` answers on a corpus too large to score exactly."""

import time
from typing import Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say


def build_vector_index(
    index: Annotated[str, typer.Option(help="The index to make it in.")], as_json: Json = False
) -> None:
    """Make the vector index on the super images; re-indexing keeps it up to date."""
    from qasir.index.index import Index
    from qasir.index.lease import Run
    from qasir.retrieval import vector_index

    since = time.perf_counter()
    opened = Index.open(index)
    with Run(opened, "build_vector_index") as held:
        n_rows = vector_index.build(held.writer)
    seconds = time.perf_counter() - since
    say(f"{n_rows:,} super images indexed in {vector_index.partitions(n_rows)} partitions, {seconds:.1f} s")
    if as_json:
        print_json({"super_images": n_rows, "partitions": vector_index.partitions(n_rows), "seconds": seconds})


app = job(build_vector_index)

if __name__ == "__main__":
    run(app)
