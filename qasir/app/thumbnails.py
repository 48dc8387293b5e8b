"""Cuts one frame out of the small picture of a super image."""

import io

from PIL import Image

from qasir.video.super_image import Cell, Fit, cells, fit_inside

_QUALITY = 85


def cell_of(jpeg: bytes, grid: int, number: int, *, fit: Fit = "squash", aspect: float | None = None) -> bytes:
    """The JPEG of cell `number` (filling order, 0 .. grid^2 - 1; cells from `n_valid` on are black) of a stored
    super image.

    aspect: width over height that the video is shown at. With it a squashed cell is stretched to its own shape, and the
    bars of a letterboxed one are cut off; without it the cell comes as it is.
    """
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        whole = Cell(0, 0, picture.height, picture.width) if grid == 1 else cells(picture.width, grid)[number]
        box = fit_inside(whole, aspect, fit) if aspect else whole
        cut = picture.convert("RGB").crop((box.left, box.top, box.right, box.bottom))
    if aspect and fit == "squash":
        cut = cut.resize(_stretched(box, aspect), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    cut.save(out, format="JPEG", quality=_QUALITY)
    return out.getvalue()


def _stretched(box: Cell, aspect: float) -> tuple[int, int]:
    """(width, height) of that aspect, with neither side longer than the cell's."""
    width = max(1, min(box.width, round(box.height * aspect)))
    return width, max(1, min(box.height, round(box.width / aspect)))
