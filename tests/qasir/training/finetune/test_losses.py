import math

import numpy as np
import pytest
import torch

from qasir.retrieval.architecture import Architecture
from qasir.retrieval.methods.attention import Attention
from qasir.retrieval.methods.maximum import Max
from qasir.retrieval.methods.mean import Mean
from qasir.retrieval.methods.text_gated import TextGated
from qasir.retrieval.methods.weighted import Weighted
from qasir.retrieval.modules import FineTuned
from qasir.retrieval.recipe import Recipe
from qasir.retrieval.scoring import score
from qasir.training.finetune.losses import info_nce, pearson, triplet
from qasir.training.finetune.objective import Objective, pooled_scores, text_gated
from tests.qasir.training.finetune.made_up import batch, ragged, rows


def same_of(video):
    return torch.tensor([[a == b for b in video] for a in video])


def test_triplet_with_hard_negatives_is_its_definition():
    similarity = torch.tensor(rows(0, 4, 4), dtype=torch.float64)
    video = [0, 1, 0, 2]
    expected = 0.0
    for values in (similarity.numpy(), similarity.numpy().T):
        for i in range(4):
            hardest = max(values[i, j] for j in range(4) if video[j] != video[i])
            expected += max(0.0, 0.2 + hardest - values[i, i]) / 4
    found = triplet(similarity, same_of(video), 0.2, hard=True, generator=None)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_random_negatives_are_never_siblings_and_are_all_drawn():
    """A sibling would cost 100; one other pair costs more than the rest, and is met as a row's negative and as a
    column's."""
    similarity = torch.zeros(4, 4, dtype=torch.float64)
    video = [0, 0, 1, 2]
    similarity[same_of(video) & ~torch.eye(4, dtype=torch.bool)] = 100.0
    generator = torch.Generator().manual_seed(0)
    assert float(triplet(similarity, same_of(video), 0.5, hard=False, generator=generator)) == 1.0
    similarity[0, 2] = 0.25
    drawn = {float(triplet(similarity, same_of(video), 0.5, hard=False, generator=generator)) for _ in range(50)}
    assert drawn == {1.0, 1.0625, 1.125}


def test_a_batch_of_one_video_has_no_negatives():
    same = torch.ones(3, 3, dtype=torch.bool)
    for hard in (True, False):
        assert float(triplet(torch.rand(3, 3), same, 0.2, hard=hard, generator=None)) == 0.0


def test_info_nce_is_its_definition_without_siblings():
    logits = torch.tensor(rows(1, 5, 5), dtype=torch.float64)
    video = [0, 1, 1, 2, 0]
    expected = 0.0
    for values in (logits.numpy(), logits.numpy().T):
        for i in range(5):
            others = [math.exp(values[i, j]) for j in range(5) if video[j] != video[i]]
            expected -= math.log(math.exp(values[i, i]) / (math.exp(values[i, i]) + sum(others))) / 5
    assert float(info_nce(logits, same_of(video))) == pytest.approx(0.5 * expected, rel=1e-12)


def test_siblings_get_no_gradient():
    logits = torch.tensor(rows(2, 4, 4), dtype=torch.float64, requires_grad=True)
    same = same_of([0, 0, 1, 2])
    (info_nce(logits, same) + triplet(logits, same, 0.2, hard=True, generator=None)).backward()
    siblings = same & ~torch.eye(4, dtype=torch.bool)
    assert (logits.grad[siblings] == 0).all()
    assert (logits.grad[~same] != 0).any()


def test_pearson_is_the_correlation_of_each_dimension():
    a, b = rows(3, 30, 6), rows(4, 30, 6)
    correlation = np.array([np.corrcoef(a[:, d], b[:, d])[0, 1] for d in range(6)])
    expected = 0.14 * ((correlation - 1) ** 2).sum()
    assert float(pearson(torch.tensor(a), torch.tensor(b))) == pytest.approx(expected, rel=1e-4)
    assert float(pearson(torch.tensor(a), torch.tensor(3 * a + 1))) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="batch of 1"):
        pearson(torch.tensor(a[:1]), torch.tensor(b[:1]))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: pearson(x, x.roll(1, 0) * 2 + x),
        lambda x: info_nce(x @ x.T, same_of([0, 1, 1, 2])),
        lambda x: triplet(x @ x.T, same_of([0, 1, 1, 2]), 5.0, hard=True, generator=None),
    ],
    ids=["pearson", "info_nce", "triplet"],
)
def test_gradients_equal_finite_differences(loss):
    x = torch.tensor(rows(5, 4, 3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (x,), rtol=1e-5, atol=1e-7)


# Scores with gradients


@pytest.mark.parametrize("scoring", [Attention(0.05), Mean(), Max()], ids=str)
def test_training_scores_equal_those_of_retrieval(scoring):
    features, images, padding = ragged(0, [3, 1, 7, 4])
    queries = rows(9, 5, 16).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = pooled_scores(torch.from_numpy(queries), images, padding, scoring)
    np.testing.assert_allclose(found.numpy(), score(queries, features, scoring), atol=1e-5)


def test_weighted_scores_are_their_definition():
    _, images, padding = ragged(1, [3, 6])
    texts = torch.nn.functional.normalize(torch.tensor(rows(2, 2, 16), dtype=torch.float32), dim=1)
    found = pooled_scores(texts, images, padding, Weighted(0.01))
    for q in range(2):
        for v, length in enumerate([3, 6]):
            c = (images[v, :length] @ texts[q]).double().numpy()
            w = np.exp((c - c.max()) / 0.01)
            assert float(found[q, v]) == pytest.approx(float((w * c).sum() / w.sum()), abs=1e-5)


def test_gates_carry_no_gradient():
    """The derivative by the values is that with the weights fixed, and there is none by texts or gates."""
    texts, gates, values = (torch.tensor(rows(i, 2, 3, 4), requires_grad=True) for i in (1, 2, 3))
    padding = torch.tensor([[False, False, True], [False, False, False]])
    text_gated(texts[:, 0], gates, values, padding, TextGated(0.1)).sum().backward()
    assert texts.grad is None
    assert gates.grad is None
    assert (values.grad[0, 2] == 0).all()
    assert (values.grad[1] != 0).any()


def test_eercf_is_its_formula():
    """In float64, with loops, from the model's own outputs."""
    made = batch([4, 2, 5], video=[0, 1, 2], cells=2)
    recipe = Recipe("eercf", gate_temperature=0.1)
    torch.manual_seed(0)
    objective = Objective(FineTuned(16, Architecture(dropout=0.0)), recipe)
    for parameter in objective.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    found = objective(made, epoch=0)
    model = objective.model
    texts = model.texts(made.texts).detach().double().numpy()
    frames = model.frames(made.images)
    images = model.images(frames, made.image_padding).detach().double().numpy()
    cells = model.frames(made.cells).detach().double().numpy()
    raw = frames.detach().double().numpy()
    b = len(texts)
    weak, gated, videos = np.zeros((b, b)), [], []
    for v in range(b):
        n, m = int((~made.image_padding[v]).sum()), int((~made.cell_padding[v]).sum())
        video = images[v, :n].sum(axis=0)
        videos.append(video / np.linalg.norm(video))
        gate = softmax(raw[v, :n] @ texts[v] / 0.1)
        u = gate @ images[v, :n]
        gated.append(u / np.linalg.norm(u))
        for q in range(b):
            c, p = images[v, :n] @ texts[q], cells[v, :m] @ texts[q]
            weak[q, v] = 0.5 * texts[q] @ videos[v] + 0.5 * softmax(c / 0.01) @ c + 0.05 * softmax(p / 0.01) @ p
    strong = texts @ np.array(gated).T
    scale = 1 / 0.07
    expected = 0.8 * cross_entropies(scale * weak) + 0.2 * cross_entropies(scale * strong)
    expected += 0.001 * (correlation_loss(texts, np.array(videos)) + correlation_loss(texts, np.array(gated)))
    assert float(found.total.detach()) == pytest.approx(expected, rel=1e-4)
    without = Objective(model, Recipe("eercf", gate_temperature=0.1, pearson=False))(made, epoch=0)
    assert "pearson" not in without.parts
    assert float((found.total - without.total).detach()) == pytest.approx(
        0.001 * float(found.parts["pearson"]), rel=1e-2
    )


def softmax(values):
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def cross_entropies(logits):
    rows_, columns = (np.mean([-np.log(softmax(x[i])[i]) for i in range(len(x))]) for x in (logits, logits.T))
    return 0.5 * (rows_ + columns)


def correlation_loss(a, b):
    return 0.14 * sum((np.corrcoef(a[:, d], b[:, d])[0, 1] - 1) ** 2 for d in range(a.shape[1]))


def test_the_scale_stops_at_a_hundred():
    made = batch([2, 2], video=[0, 1])
    objective = Objective(FineTuned(16, Architecture()), Recipe("eercf"))
    objective.log_scale.data.fill_(50.0)
    assert float(objective(made, epoch=0).parts["scale"]) == 100.0


def test_hard_negatives_come_later():
    made = batch([3] * 8, video=list(range(8)))
    recipe = Recipe(hard_negatives_after=3)
    objective = Objective(FineTuned(16, Architecture(dropout=0.0)), recipe)
    random = {float(objective(made, epoch=0, generator=torch.Generator().manual_seed(s)).total) for s in range(5)}
    hard = {float(objective(made, epoch=3, generator=torch.Generator().manual_seed(s)).total) for s in range(5)}
    assert len(random) > 1
    assert len(hard) == 1
    assert hard.pop() >= max(random)


def test_batches_move_whole():
    made = batch([1, 2], video=[0, 1], cells=4)
    moved = made.to(torch.device("meta"))
    assert {name: (value.device.type, value.shape) for name, value in vars(moved).items()} == {
        name: ("meta", value.shape) for name, value in vars(made).items()
    }
