"""What frames became: a picture a video, the frames that training started from above what it made of them."""

import io

import numpy as np
from PIL import Image, ImageDraw

from qasir.training.mof.frame_table import FrameBatch
from qasir.training.mof.pixels import PixelScale

_GAP, _TEXT = 6, 16


def before_and_after(batch: FrameBatch, video: int, scale: PixelScale) -> bytes:
    """A PNG: K frames at the start, K now, their difference times ten around grey, and the mean displacement in
    words."""
    start, now = scale.pixels(batch.start[video]), scale.pixels(batch.frames[video])
    change = np.clip(127.5 + 10.0 * (now.astype(np.float32) - start), 0, 255).astype(np.uint8)
    k, side = len(start), start.shape[1]
    width, height = k * (side + _GAP) + _GAP, 3 * (side + _GAP) + _GAP + _TEXT
    sheet = Image.new("RGB", (width, height), "white")
    for row, pictures in enumerate((start, now, change)):
        for column, picture in enumerate(pictures):
            at = (_GAP + column * (side + _GAP), _TEXT + _GAP + row * (side + _GAP))
            sheet.paste(Image.fromarray(picture), at)
    moved = float(batch.displacement[video])
    label = f"{batch.video_ids[video]}: start, learned, difference x 10; mean displacement {moved:.4f} normalised"
    ImageDraw.Draw(sheet).text((_GAP, 2), label, fill="black")
    out = io.BytesIO()
    sheet.save(out, format="PNG")
    return out.getvalue()
