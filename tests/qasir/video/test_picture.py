import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from qasir.errors import QueryError
from qasir.video.picture import picture_pixels


def stored(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_fills_the_image(form):
    pixels = picture_pixels(stored(Image.new("RGB", (40, 20), (200, 0, 0)), form), 32, "squash")
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - [200, 0, 0]).max() < 8


def test_letterboxed_it_keeps_its_aspect_on_black():
    pixels = picture_pixels(stored(Image.new("RGB", (40, 20), "white")), 32, "letterbox")
    assert (pixels[8:24] == 255).all()
    assert not pixels[:8].any()
    assert not pixels[24:].any()


def test_it_is_upright_and_what_is_transparent_is_black(tmp_path):
    image = Image.new("RGB", (20, 20), "black")
    image.paste("white", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = picture_pixels(stored(image, exif=exif), 20, "squash")
    assert pixels[15].min() == 255
    assert pixels[5].max() == 0
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    clear.save(tmp_path / "clear.png")
    assert not picture_pixels(tmp_path / "clear.png", 8, "squash").any()


def png_that_says(width, height):
    """A PNG's header, and that its pixels follow, which they do not."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a picture"),
        (b"a text", "not a picture"),
        (b"%PDF-1.4", "not a picture"),
        (png_that_says(9000, 9000), "more than 35,651,584 pixels"),
        (png_that_says(100_000, 100_000), "more than 35,651,584 pixels"),
        (png_that_says(90, 90), "damaged"),
        (stored(Image.effect_noise((64, 64), 50))[:2000], "damaged"),
    ],
)
def test_what_is_no_picture_is_an_error_of_one_line_that_names_it(tmp_path, content, says):
    path = tmp_path / "p.png"
    path.write_bytes(content)
    with pytest.raises(QueryError, match=says) as error:
        picture_pixels(path, 32, "squash")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(QueryError, match=says):
        picture_pixels(content, 32, "squash")


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path):
    for path in (tmp_path, tmp_path / "no", tmp_path / "nul\0"):
        with pytest.raises(QueryError, match="cannot be read"):
            picture_pixels(path, 32, "squash")
