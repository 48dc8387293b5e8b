from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qasir.demo.muon import orthogonalise
from qasir.demo.scene_batches import SceneBatches
from qasir.demo.scene_losses import SceneLosses
from qasir.demo.scenes import ScenePainter, SceneStyle
from qasir.demo.sprites import BACKGROUNDS, load_sprites
from qasir.demo.towers import encode_window, export, export_folder, model_config, packaged_config
from qasir.demo.train_packaged import train
from qasir.demo.training_plan import TrainingPlan
from qasir.errors import ModelError, SpecError
from qasir.vlm.model import Vlm
from qasir.vlm.weights import resolve
from tests.qasir.training.dying import writes_survived

PLAN = TrainingPlan(steps=2, tokens=144, texts=16, captions=8)
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 96, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the process that makes batches has; a process of its own sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_scenes_know_what_is_on_them():
    painter = ScenePainter(load_sprites(), patch=16)
    style = SceneStyle(side=96, min_height=40, max_height=60, kinds=2, copies=2)
    for seed in range(20):
        scene = painter.paint(np.random.default_rng(seed), style)
        assert scene.image.shape == (96, 96, 3)
        assert scene.patches.shape == (6, 6)
        shown = set(scene.patches.ravel().tolist()) - {-1}
        assert {label for label in shown if label < len(load_sprites())} <= set(scene.sprites)
        backgrounds = {label for label in shown if label >= len(load_sprites())}
        assert backgrounds <= {len(load_sprites()) + (scene.background if scene.background is not None else -99)}
        assert len(scene.sprites) >= 1


def test_a_batch_follows_from_seed_and_step():
    def batch(first):
        return next(iter(SceneBatches(replace(PLAN, steps=4), grid=12, patch=16, first_step=first)))

    assert torch.equal(batch(2).images, batch(2).images)
    assert batch(2).captions == batch(2).captions
    assert batch(2).captions != batch(3).captions
    one = batch(1)
    assert one.fits.diagonal().all()
    np.testing.assert_allclose(one.targets.sum(1), 1.0, atol=1e-5)
    assert one.targets.shape[1] == len(load_sprites()) + len(BACKGROUNDS)


def test_orthogonalise_flattens_singular_values():
    for shape in ((3, 20, 50), (2, 50, 20)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_a_whole_window_is_the_models_own_forward():
    model = SceneLosses(PLAN, packaged_config()).model
    images = torch.randn(2, 3, 192, 192)
    with torch.no_grad():
        scene, patches = encode_window(model, images, (0, 0))
        expected = torch.nn.functional.normalize(model.visual(images), dim=-1)
    torch.testing.assert_close(scene, expected)
    assert patches.shape == (2, 144, 192)


def test_a_seed_gives_the_weights_too():
    first, again, other = (SceneLosses(replace(PLAN, seed=seed), SMALL).model.visual.proj for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def train_in(folder):
    torch.set_num_threads(1)
    train(PLAN, SMALL, folder, save_every_s=0.0, load=iter)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.losses.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, trainer) of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(PLAN, SMALL, folder, load=iter)


@pytest.mark.slow
def test_training_killed_at_any_write_goes_on_to_the_same_weights(whole, tmp_path):
    """A process that ends before its first, second, ... state is written; then the same again, to the end."""
    n_killed = 0
    for folder, was_killed in writes_survived(train_in, (tmp_path / str(n) for n in range(9))):
        again = train(PLAN, SMALL, folder, load=iter)
        assert again.state.position == PLAN.steps
        assert torch.equal(weights(again), weights(whole[1]))
        if not was_killed:
            break
        n_killed += 1
    assert n_killed == PLAN.steps


def test_batches_made_ahead_are_the_same(whole, tmp_path):
    assert torch.equal(weights(train(PLAN, SMALL, tmp_path)), weights(whole[1]))


def test_history_says_what_was_lost(whole):
    (record,) = whole[1].state.history
    assert record["step"] == PLAN.steps
    assert {"scene", "patch", "text", "caption", "hit", "patch_hit"} < set(record)


@pytest.mark.parametrize(
    ("plan", "config", "says"),
    [
        (replace(PLAN, steps=5), SMALL, "plan.steps: 2 then, 5 now"),
        (replace(PLAN, seed=3), SMALL, "plan.seed: 0 then, 3 now"),
        (PLAN, {**SMALL, "embed_dim": 32}, "model.embed_dim: 16 then, 32 now"),
    ],
)
def test_other_settings_need_another_folder(whole, plan, config, says):
    with pytest.raises(SpecError) as error:
        train(plan, config, whole[0], load=iter)
    assert str(error.value).splitlines()[1:] == [f"  {says}"]


def test_a_damaged_state_is_named(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="last.pt"):
        train(PLAN, SMALL, tmp_path, load=iter)


def test_the_packaged_models_weights_load(tmp_path):
    losses = SceneLosses(PLAN, packaged_config())
    export(losses.model, losses.vocabulary, tmp_path / "qasir-tiny.safetensors")
    vlm = Vlm(resolve("qasir-tiny", str(tmp_path / "qasir-tiny.safetensors")))
    text = losses.vocabulary.encode(losses.model, ["a penguin on a blue background"]).detach().numpy()
    np.testing.assert_allclose(vlm.encode_texts(["a penguin on a blue background"]), text, atol=5e-3)


def test_a_model_of_another_size_loads_from_its_folder(tmp_path):
    config = model_config(Path(__file__).parents[3] / "benchmarks" / "models" / "qasir-nano.json")
    losses = SceneLosses(PLAN, config)
    export_folder(losses.model, losses.vocabulary, config, tmp_path / "nano")
    vlm = Vlm(resolve(f"local-dir:{tmp_path / 'nano'}"))
    assert (vlm.embedding_dim, vlm.image_size) == (128, 192)
    text = losses.vocabulary.encode(losses.model, ["a penguin"]).detach().numpy()
    np.testing.assert_allclose(vlm.encode_texts(["a penguin"]), text, atol=5e-3)


def test_what_is_no_model_config_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no open_clip model config"):
        model_config(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"embed_dim": 3}')
    with pytest.raises(ModelError, match="it needs embed_dim, vision_cfg and text_cfg"):
        model_config(tmp_path / "x.json")
