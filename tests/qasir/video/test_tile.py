import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from qasir.video.container import Video
from qasir.video.super_image import cells
from qasir.video.tile import Tiler, Tiling, Wanted, n_super_images, super_images
from tests.videos import brightness, write_video


def tiled(path, **options):
    with Video(str(path)) as video:
        tiler = Tiler(Wanted(Tiling(Fraction(5), 2, 33), **options), video.pixel_aspect)
        return [image for _, image in super_images(video, [tiler])]


def test_runs_of_frames_fill_cells_in_order_and_blanks_are_black(tmp_path):
    images = tiled(write_video(tmp_path / "v.mp4", 19, rate=10))  # 1.9 s at 5 a second: 10 samples
    assert [image.position for image in images] == [0, 1, 2]
    assert [image.n_valid for image in images] == [4, 4, 2]
    for image in images:
        for at, cell in enumerate(cells(33, 2)):
            part = image.pixels[cell.top : cell.bottom, cell.left : cell.right]
            if at < image.n_valid:
                assert part.mean() == pytest.approx(brightness(2 * (4 * image.position + at)), abs=5)
            else:
                assert (part == 0).all()


def test_spans_start_at_the_first_sample_and_end_with_the_video(tmp_path):
    images = tiled(write_video(tmp_path / "v.mp4", 19, rate=10))
    assert [(image.start_s, image.end_s) for image in images] == [(0.0, 0.8), (0.8, 1.6), (1.6, pytest.approx(1.9))]


def test_skipped_positions_are_left_out_and_the_others_unchanged(tmp_path):
    path = write_video(tmp_path / "v.mp4", 40, rate=10)
    whole = tiled(path)
    some = tiled(path, skip=frozenset({0, 2, 4}))
    assert [image.position for image in some] == [1, 3]
    for image in some:
        np.testing.assert_array_equal(image.pixels, whole[image.position].pixels)
        assert image.end_s == whole[image.position].end_s
    assert tiled(path, skip=frozenset(range(5))) == []


@pytest.mark.parametrize(("samples", "grid", "expected"), [(1, 1, 1), (9, 3, 1), (10, 3, 2), (100, 4, 7)])
def test_number_of_super_images(samples, grid, expected):
    assert n_super_images(samples, grid) == expected


def test_decoding_workers_do_not_import_torch():
    code = "import sys, qasir.encoding.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
