"""A picture as the encoder sees a frame that fills a super image."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from qasir.errors import QueryError
from qasir.files.readable import reason
from qasir.video.limits import MAX_FRAME_PIXELS
from qasir.video.super_image import Cell, Fit, fit_inside

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is opened; of pictures that move, the first one is taken."""
MAX_PICTURE_BYTES = 64 << 20


class PictureTooLarge(QueryError):
    """More pixels or bytes than a picture may have."""


def picture_pixels(source: str | Path | bytes, side: int, fit: Fit) -> NDArray[np.uint8]:
    """(side, side, 3) RGB of a picture, from a file or from the file's bytes: upright by its EXIF tag, what is
    transparent black, scaled as frames are (bicubic, squashed or letterboxed on black).

    Raises QueryError for what is no picture, has more pixels than a frame may have, is damaged or cannot be read.
    """
    name = "that was given" if isinstance(source, bytes) else str(source)
    seen = read_picture(source if isinstance(source, bytes) else _read(Path(source)), name)
    box = fit_inside(Cell(0, 0, side, side), seen.width / seen.height, fit)
    image = np.zeros((side, side, 3), np.uint8)
    scaled = seen.resize((box.width, box.height), Image.Resampling.BICUBIC)
    image[box.top : box.bottom, box.left : box.right] = np.asarray(scaled)
    return image


def read_picture(stored: bytes, name: str) -> Image.Image:
    """A file's bytes as an RGB picture, upright by its EXIF tag, what is transparent black. Raises QueryError as
    `picture_pixels` does."""
    if len(stored) > MAX_PICTURE_BYTES:
        raise PictureTooLarge(f"the picture {name} has more than {MAX_PICTURE_BYTES >> 20} MiB: make it smaller")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own, smaller limit, and of tags that make no sense
            return _upright(stored, name)
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except UnidentifiedImageError:
        raise QueryError(f"the file {name} is not a picture that can be read: one of {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise QueryError(f"the picture {name} is damaged: {reason(error)}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PICTURE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise QueryError(f"the picture {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _upright(stored: bytes, name: str) -> Image.Image:
    with Image.open(io.BytesIO(stored), formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_FRAME_PIXELS:
            raise _too_large(name)
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "RGB":
            return upright
        seen = Image.new("RGBA", upright.size, "black")
        seen.alpha_composite(upright.convert("RGBA"))
        return seen.convert("RGB")


def _too_large(name: str) -> PictureTooLarge:
    return PictureTooLarge(f"the picture {name} has more than {MAX_FRAME_PIXELS:,} pixels: make it smaller")
