import numpy as np
import pytest
import torch
from torch import nn

from qasir.errors import ModelError, SpecError
from qasir.training.mof.meta_gradient import Clips, loss_of, meta_gradient
from qasir.training.mof.settings import Objective
from qasir.training.mof.trainable import RetrievalModel, choose_weights
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.weights import resolve


@pytest.fixture(scope="module")
def tiny():
    """A real open_clip model small enough for finite differences, in float64."""
    torch.manual_seed(0)
    made = open_clip.model.CLIP(
        embed_dim=8,
        vision_cfg={"image_size": 8, "patch_size": 4, "layers": 2, "width": 8, "head_width": 4},
        text_cfg={"context_length": 5, "vocab_size": 20, "width": 8, "heads": 2, "layers": 2},
    )
    return RetrievalModel(made.double()).eval()


def material(b=3, k=2, r=4):
    torch.manual_seed(1)
    tokens = torch.randint(1, 19, (b, 5))
    frames, dense = torch.randn(b, k, 3, 8, 8).double(), torch.randn(b, r, 3, 8, 8).double()
    return Clips(tokens, frames, torch.arange(b)), dense


def composed(objective, model, weights, clips, dense, inner_lr):
    """L(w'(F); R), with w' by plain autograd."""
    fixed = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    inner = torch.autograd.grad(loss_of(objective, model, fixed, clips), list(fixed.values()))
    stepped = {name: value.detach() - inner_lr * g for (name, value), g in zip(fixed.items(), inner, strict=True)}
    return float(loss_of(objective, model, stepped, clips.with_frames(dense)))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("layers", ["last", "projections", "all"])
def test_the_meta_gradient_is_that_of_the_composed_objective(tiny, pooling, layers):
    """Against central differences along random directions, in float64, to 1e-4 relative."""
    objective = Objective(pooling, 0.1)
    weights = choose_weights(tiny, layers)
    clips, dense = material()
    found = meta_gradient(objective, tiny, weights, clips, dense, 0.7).frames
    step = 1e-4
    for seed in range(4):
        direction = torch.randn(clips.frames.shape, generator=torch.Generator().manual_seed(seed)).double()
        ahead, behind = (
            composed(objective, tiny, weights, clips.with_frames(clips.frames + sign * step * direction), dense, 0.7)
            for sign in (1, -1)
        )
        expected = (ahead - behind) / (2 * step)
        assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_without_an_inner_step_there_is_no_meta_gradient(tiny):
    clips, dense = material()
    found = meta_gradient(Objective(), tiny, choose_weights(tiny), clips, dense, 0.0)
    assert (found.frames == 0).all()


def test_a_meta_gradient_leaves_the_model_alone(tiny):
    weights = choose_weights(tiny)
    before = {name: value.detach().clone() for name, value in weights.items()}
    clips, dense = material()
    meta_gradient(Objective(), tiny, weights, clips, dense, 1.0)
    for name, value in weights.items():
        assert torch.equal(value, before[name])
        assert value.grad is None


def test_following_the_meta_gradient_lowers_the_dense_loss(tiny):
    weights, objective = choose_weights(tiny, "all"), Objective()
    clips, dense = material()
    first = composed(objective, tiny, weights, clips, dense, 1.0)
    for _ in range(10):
        gradient = meta_gradient(objective, tiny, weights, clips, dense, 1.0).frames
        clips = clips.with_frames(clips.frames - 0.05 * gradient / gradient.norm())
    assert composed(objective, tiny, weights, clips, dense, 1.0) < first


def test_what_trains(tiny):
    last = choose_weights(tiny, "last")
    assert {"clip.visual.proj", "clip.text_projection"} <= set(last)
    assert any("visual.transformer.resblocks.1." in name for name in last)
    assert any(name.startswith("clip.transformer.resblocks.1.") for name in last)
    assert not any("resblocks.0." in name for name in last)
    projections = choose_weights(tiny, "projections")
    assert set(projections) < set(last)
    assert not any("resblocks" in name for name in projections)
    assert set(last) < set(choose_weights(tiny, "all"))
    assert "clip.logit_scale" not in choose_weights(tiny, "all")
    with pytest.raises(SpecError, match="layers 'x'"):
        choose_weights(tiny, "x")


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP-S1"])
def test_real_architectures_have_a_last_block(model):
    """Built without numbers, since only names matter."""
    with torch.device("meta"):
        made = open_clip.create_model(model, load_weights=False, pretrained_text=False, device="meta")
    weights = choose_weights(RetrievalModel(made), "last")
    n_trained = sum(value.numel() for value in weights.values())
    assert 0 < n_trained < 0.5 * sum(p.numel() for p in made.parameters())


def test_a_model_of_unknown_parts_is_refused():
    with pytest.raises(ModelError, match="train --layers all"):
        choose_weights(RetrievalModel(nn.Linear(2, 2)), "last")


def test_the_packaged_model_gives_normalised_vectors():
    vlm = Vlm(resolve("qasir-tiny"), device="cpu")
    model = RetrievalModel(vlm.module)
    side = vlm.image_size
    texts, images = model(vlm.tokens(["a penguin", "a pizza"]), torch.randn(2, 3, 3, side, side))
    assert images.shape == (2, 3, vlm.embedding_dim)
    np.testing.assert_allclose(texts.norm(dim=-1).detach(), 1.0, atol=1e-5)
    np.testing.assert_allclose(texts.detach().numpy(), vlm.encode_texts(["a penguin", "a pizza"]), atol=1e-5)
