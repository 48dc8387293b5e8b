"""Renders the demo corpus: videos made of moments, and one query a moment."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import Json, job
from jobs.console import print_json, run, say
from qasir.errors import QasirError


def render_demo(
    output: Annotated[Path, typer.Option(help="Folder for videos/*.mp4, queries.jsonl and the sprites' licence.")],
    videos: Annotated[int, typer.Option(min=1, help="How many videos; queries fit one video of the set only.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and number give the same frames and queries.")] = 0,
    as_json: Json = False,
) -> None:
    """Render the demo corpus. Videos that are there already are kept."""
    from tqdm import tqdm

    from qasir.demo.render import render_corpus

    with tqdm(total=videos, unit="video", desc="rendering", disable=None) as bar:
        try:
            rendered, queries = render_corpus(output, videos, seed, on_video=lambda _: bar.update())
        except ValueError as error:
            raise QasirError(str(error)) from None
    say(f"{videos} videos ({rendered} rendered now) and {queries} queries in {output}")
    if as_json:
        print_json({"videos": videos, "rendered": rendered, "queries": queries, "output": str(output)})


app = job(render_demo)

if __name__ == "__main__":
    run(app)
