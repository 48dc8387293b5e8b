import numpy as np
import pytest

from qasir.errors import SpecError
from qasir.video.super_image import Cell, cell_edges, cell_overlap, cells, fit_inside


@pytest.mark.parametrize("size", [1, 7, 192, 224, 336])
@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5, 7])
def test_cells_partition_the_image_exactly(size, grid):
    if grid > size:
        with pytest.raises(SpecError, match=f"grid {grid}"):
            cell_edges(size, grid)
        return
    covered = np.zeros((size, size), int)
    for cell in cells(size, grid):
        covered[cell.top : cell.bottom, cell.left : cell.right] += 1
        assert cell.height in (size // grid, size // grid + 1)
    assert (covered == 1).all()


def test_cells_go_row_by_row_left_to_right():
    first, second, third, _ = cells(10, 2)
    assert (first.top, first.left) == (0, 0)
    assert (second.top, second.left) == (0, 5)
    assert (third.top, third.left) == (5, 0)


def test_letterbox_keeps_the_aspect_centred_and_squash_fills():
    cell = Cell(10, 20, 110, 120)
    assert fit_inside(cell, 2.0, "squash") == cell
    assert fit_inside(cell, 2.0, "letterbox") == Cell(35, 20, 85, 120)
    assert fit_inside(cell, 0.5, "letterbox") == Cell(10, 45, 110, 95)
    assert fit_inside(cell, 1000.0, "letterbox").height == 1


@pytest.mark.parametrize(("size", "grid", "patches"), [(192, 3, 12), (224, 3, 7), (224, 2, 7), (50, 4, 3)])
def test_cell_overlap_is_the_area_shared_with_each_patch(size, grid, patches):
    weights = cell_overlap(size, grid, patches)
    assert weights.shape == (grid**2, patches**2)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
    # The slow way: count sub-pixels.
    fine = 16
    position = (np.arange(size * fine) + 0.5) / fine
    patch_of = np.minimum((position * patches / size).astype(int), patches - 1)
    cell = cells(size, grid)[grid]  # first of the second row, or the last one
    rows = patch_of[cell.top * fine : cell.bottom * fine]
    columns = patch_of[cell.left * fine : cell.right * fine]
    counted = np.outer(np.bincount(rows, minlength=patches), np.bincount(columns, minlength=patches)).ravel()
    np.testing.assert_allclose(weights[grid], counted / counted.sum(), atol=0.01)
