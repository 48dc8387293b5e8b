import numpy as np
import pytest

from qasir.errors import FeaturesError
from qasir.features.shaping import Columns, NotFiniteError, Shaping, pooled
from tests.indexes import unit


def test_rows_are_taken_as_they_are_or_scaled_when_asked():
    rows = unit(np.random.default_rng(0).standard_normal((4, 5)))
    np.testing.assert_array_equal(Shaping().rows(rows, "v"), rows)
    np.testing.assert_array_equal(Shaping().rows(rows.astype(np.float16), "v"), rows.astype(np.float16))
    with pytest.raises(FeaturesError, match=r"v: 3 of 4 rows are not of length 1, 1 first \(7\): --normalise"):
        Shaping().rows(rows * np.array([[1], [7], [7], [7]], np.float32), "v")
    np.testing.assert_allclose(Shaping(normalise=True).rows(7 * rows, "v"), rows, rtol=1e-6)


def test_columns_are_chosen_before_lengths_are_looked_at():
    rows = np.concatenate([np.full((3, 2), 9.0, np.float32), unit(np.ones((3, 4)))], axis=1)
    shaping = Shaping(Columns.parse("2:6"))
    np.testing.assert_array_equal(shaping.rows(rows, "v", 4), rows[:, 2:])
    assert str(shaping) == "columns 2:6, as given"
    with pytest.raises(FeaturesError, match="6 columns, and --columns 2:7"):
        Shaping(Columns.parse("2:7")).rows(rows, "v")
    for text in ("2", "3:3", "4:1", "-1:3", "a:b"):
        with pytest.raises(FeaturesError, match="columns .*give A:B"):
            Columns.parse(text)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4, np.float32), r"shape \(4,\)"),
        (np.ones((0, 4), np.float32), r"shape \(0, 4\)"),
        (np.float32(1), "a single number"),
        (np.ones((2, 4), np.int64), "type int64"),
        (np.ones((2, 3), np.float32), "3 dimensions, where 4 are wanted"),
    ],
)
def test_what_is_no_frame_features_is_said(array, message):
    with pytest.raises(FeaturesError, match=f"v: .*{message}"):
        Shaping(normalise=True).rows(np.asarray(array), "v", 4)


@pytest.mark.parametrize("normalise", [False, True])
def test_numbers_that_are_not_finite_and_rows_of_nothing(normalise):
    rows = unit(np.ones((3, 4)))
    rows[1, 2] = np.nan
    with pytest.raises(NotFiniteError, match="in 1 of 3 rows, 1 first"):
        Shaping(normalise=normalise).rows(rows, "v")
    rows[1] = 0
    with pytest.raises(FeaturesError, match="1 of 3 rows are"):
        Shaping(normalise=normalise).rows(rows, "v")


def test_tokens_become_one_vector_only_as_was_asked():
    tokens = np.array([[1, 0], [0, 3], [2, 0]], np.float32)
    found = {how: pooled(tokens, how, "q").tolist() for how in ("last", "mean", "max")}
    assert found == {"last": [2, 0], "mean": [1, 1], "max": [2, 3]}
    assert pooled(tokens[0], None, "q").tolist() == [1, 0]
    with pytest.raises(FeaturesError, match="q: 3 tokens of 2 dimensions: say by --query-pooling"):
        pooled(tokens, None, "q")
