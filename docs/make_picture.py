"""Draws the README's picture: a real super image of the demo, and the query attention over it.

python docs/make_picture.py --index demo/index --query "a dragon and a sponge" --output docs/super_image.png
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from qasir.evaluation.report.examples import cell_light
from qasir.index.snapshot import matrix
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.opening import open_index
from qasir.retrieval.vectors import normalised
from qasir.video.super_image import cells
from qasir.video.tile import Tiling, tile

SIDE, GAP, BAR = 432, 24, 90
PAPER, INK, SOFT, ACCENT = (255, 255, 255), (28, 36, 48), (170, 178, 190), (217, 100, 44)


def main(
    index: Annotated[str, typer.Option()],
    query: Annotated[str, typer.Option()],
    output: Annotated[Path, typer.Option()],
) -> None:
    searcher = open_index(index)
    spec = searcher.sides[0].index.spec
    hit = searcher.search(query, top_k=1)[0]
    rows = (
        searcher.sides[0]
        .index.snapshot()
        .super_images(["start_s", "end_s", "n_valid", "embedding", "cell_embeddings"], video_ids=[hit.video_id])
    )
    text = searcher.encode([query])[0]
    similarity = normalised(matrix(rows["embedding"], spec.embedding_dim)) @ text
    weights = Attention().attention(similarity)
    position = int(similarity.argmax())
    cell_vectors = matrix(rows["cell_embeddings"], spec.grid**2 * spec.embedding_dim).astype(np.float32)
    light = cell_light(text, cell_vectors[position].reshape(spec.grid**2, -1), rows["n_valid"][position].as_py())
    uri = searcher.sides[0].index.table("videos").to_table(columns=["video_id", "uri"]).to_pylist()
    path = next(row["uri"] for row in uri if row["video_id"] == hit.video_id)
    tiling = Tiling(spec.rate, spec.grid, SIDE, spec.fit, tone_map=spec.tone_map)
    plain = next(image.pixels for image in tile(path, tiling) if image.position == position)
    lit = plain.astype(np.float32)
    for cell, value in zip(cells(SIDE, spec.grid), light, strict=True):
        lit[cell.top : cell.bottom, cell.left : cell.right] *= 0.25 + 0.75 * value
    width = 2 * SIDE + 3 * GAP
    canvas = Image.new("RGB", (width, SIDE + 2 * GAP + 60 + BAR), PAPER)
    canvas.paste(Image.fromarray(plain), (GAP, GAP))
    canvas.paste(Image.fromarray(lit.astype(np.uint8)), (SIDE + 2 * GAP, GAP))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(17)
    start, end = rows["start_s"][position].as_py(), rows["end_s"][position].as_py()
    seconds = f"{start:.0f} to {end:.0f} s of {hit.video_id}"
    draw.text((GAP, SIDE + GAP + 8), f"one super image: {seconds}", fill=INK, font=font)
    draw.text((SIDE + 2 * GAP, SIDE + GAP + 8), f'its cells, lit by how well they fit "{query}"', fill=INK, font=font)
    base, step = SIDE + 2 * GAP + 40 + BAR, (width - 2 * GAP) / len(weights)
    for i, weight in enumerate(weights):
        left = GAP + i * step
        height = max(2.0, (BAR - 20) * float(weight / weights.max()))
        draw.rectangle((left, base - height, left + step - 4, base), fill=ACCENT if i == position else SOFT)
    draw.text((GAP, base - BAR - 4), "query attention over the video's super images", fill=INK, font=font)
    canvas.save(output, optimize=True)


if __name__ == "__main__":
    typer.run(main)
