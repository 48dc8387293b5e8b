"""When cells are on display, by rows of both kinds."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from qasir.errors import UnreadableIndexError
from qasir.index.cell_times import cell_times
from qasir.index.spec import EncoderSpec

EVEN = EncoderSpec(
    "m", "p", "w", grid=2, image_size=64, fps=0.4, embedding_dim=4, precision="fp32", cells=True, thumbnails=False
)
KEYFRAMES = replace(EVEN, sampling="keyframes", max_gap_s=4.0)


def rows(*times):
    """Super images of (end_s, times of the cells, whether they are stored)."""
    return pa.table(
        {
            "video_id": ["v"] * len(times),
            "position": pa.array(range(len(times)), pa.int32()),
            "start_s": [cells[0] for _, cells, _ in times],
            "end_s": [end for end, _, _ in times],
            "n_valid": pa.array([len(cells) for _, cells, _ in times], pa.int32()),
            "cell_s": pa.array([cells if stored else None for _, cells, stored in times], pa.list_(pa.float64())),
        }
    )


def test_a_cell_lasts_until_the_next_one_and_the_last_until_its_super_image_ends():
    start, end = cell_times(rows((9.0, [0.0, 1.5, 2.0, 7.25], True), (9.5, [9.0], True)), KEYFRAMES)
    assert start.tolist() == [0.0, 1.5, 2.0, 7.25, 9.0]
    assert end.tolist() == [1.5, 2.0, 7.25, 9.0, 9.5]


def test_rows_without_times_have_those_of_the_rate_beside_rows_with_times():
    """As an index of an older library has them that a newer one encoded more videos into."""
    even = [0.0, 2.5, 5.0, 7.5]
    for stored in ((True, True), (False, False), (True, False), (False, True)):
        start, end = cell_times(rows((10.0, even, stored[0]), (13.0, [10.0, 12.5], stored[1])), EVEN)
        np.testing.assert_allclose(start, [*even, 10.0, 12.5])
        np.testing.assert_allclose(end, [2.5, 5.0, 7.5, 10.0, 12.5, 13.0])


def test_features_of_given_durations_have_no_rate():
    start, end = cell_times(rows((6.0, [0.0, 2.0, 4.0], False)), replace(EVEN, fps=0.0, features="as given"))
    assert (start.tolist(), end.tolist()) == ([0.0, 2.0, 4.0], [2.0, 4.0, 6.0])


def test_no_rows():
    start, end = cell_times(rows(), EVEN)
    assert len(start) == len(end) == 0


@pytest.mark.parametrize(("spec", "cells"), [(KEYFRAMES, None), (KEYFRAMES, [0.0]), (EVEN, [0.0, 1.0, 2.0])])
def test_a_row_that_does_not_say_when_its_cells_are_is_named(spec, cells):
    table = rows((4.0, [0.0, 2.0], True), (8.0, [4.0, 6.0], True))
    times = pa.array([[0.0, 2.0], cells], pa.list_(pa.float64()))
    table = table.set_column(table.schema.get_field_index("cell_s"), "cell_s", times)
    with pytest.raises(UnreadableIndexError, match=r"super image 1 of v .*--repair"):
        cell_times(table, spec)
