import numpy as np
import pytest
import torch

from qasir.errors import SpecError
from qasir.retrieval.architecture import Architecture
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.modules import FineTuned, TemporalEncoder, positions
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features
from tests.qasir.training.finetune.made_up import ragged, unit_rows


def shaken(architecture, dim=16):
    """A model that is no longer the identity."""
    torch.manual_seed(0)
    model = FineTuned(dim, architecture)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_training_starts_at_the_zero_shot_scores():
    features, *_ = ragged(0, [3, 1, 5])
    model = FineTuned(16, Architecture())
    queries = unit_rows(1, 4, 16)
    np.testing.assert_allclose(model.query_vectors(queries), queries, atol=1e-6)
    np.testing.assert_allclose(model.video_vectors(features).vectors, features.vectors, atol=1e-6)


def test_padding_changes_nothing():
    """A video alone, and beside longer ones."""
    features, *_ = ragged(0, [3, 9, 1, 4])
    model = shaken(Architecture())
    together = model.video_vectors(features)
    for v in range(4):
        alone = model.video_vectors(features.take(np.array([v])))
        np.testing.assert_allclose(together.of(v), alone.vectors, atol=1e-5)


def test_the_temporal_encoder_knows_order_and_neighbours():
    model = shaken(Architecture())
    features, *_ = ragged(0, [4])
    turned = Features(features.first, features.length, np.ascontiguousarray(features.vectors[::-1]))
    assert not np.allclose(model.video_vectors(turned).vectors[::-1], model.video_vectors(features).vectors, atol=1e-3)
    no_time = shaken(Architecture(temporal=False))
    np.testing.assert_allclose(
        no_time.video_vectors(turned).vectors[::-1], no_time.video_vectors(features).vectors, atol=1e-6
    )


@pytest.mark.parametrize("left_out", ["text_adapter", "image_adapter", "temporal"])
def test_each_part_can_be_left_out(left_out):
    features, *_ = ragged(0, [2, 5])
    queries = unit_rows(1, 4, 16)
    model = shaken(Architecture(**{left_out: False}))
    tuned = model.video_vectors(features)
    assert np.allclose(model.query_vectors(queries), queries) == (left_out == "text_adapter")
    assert np.allclose(model.cell_vectors(queries), queries) == (left_out == "image_adapter")
    assert (tuned.gates is None) == (left_out == "temporal")
    np.testing.assert_allclose(np.linalg.norm(tuned.vectors, axis=1), 1.0, atol=1e-5)


def test_gates_are_the_vectors_before_the_temporal_encoder():
    features, *_ = ragged(0, [2, 5])
    model = shaken(Architecture(image_adapter=False))
    tuned = model.video_vectors(features)
    np.testing.assert_allclose(tuned.gates, features.vectors, atol=1e-6)
    queries = unit_rows(1, 3, 16)
    found = score(queries, tuned, TextGated(gate_temperature=0.1))
    for q in range(3):
        for v in range(2):
            x, z = features.of(v), tuned.of(v)
            w = np.exp(x @ queries[q] / 0.1)
            u = (w / w.sum()) @ z
            assert found[q, v] == pytest.approx(queries[q] @ u / np.linalg.norm(u), abs=1e-5)


def test_gates_go_along_with_their_vectors():
    features = Features(np.array([0, 2]), np.array([2, 3]), unit_rows(0, 5, 4), unit_rows(1, 5, 4))
    np.testing.assert_array_equal(features.take(np.array([1])).gates, features.gates[2:])
    np.testing.assert_array_equal(features.thinned(2).gates[0], features.gates[1])


def test_positions_are_distinct_for_any_length():
    table = positions(3000, 16, torch.device("cpu"))
    assert table.shape == (3000, 16)
    assert len(np.unique(table.numpy().round(4), axis=0)) == 3000
    assert positions(3, 5, torch.device("cpu")).shape == (3, 5)


@pytest.mark.parametrize(
    "wrong", [{"text_adapter": False, "image_adapter": False, "temporal": False}, {"dropout": 1.0}, {"layers": 0}]
)
def test_bad_architectures_are_refused(wrong):
    with pytest.raises(SpecError):
        Architecture(**wrong)


def test_heads_must_divide_the_dimension():
    with pytest.raises(SpecError, match="5 heads do not divide"):
        TemporalEncoder(16, 1, 5, 0.0)
