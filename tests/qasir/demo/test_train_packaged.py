from pathlib import Path

import numpy as np
import pytest
import torch

from qasir.demo.muon import orthogonalise
from qasir.demo.scenes import ScenePainter, SceneStyle
from qasir.demo.sprites import BACKGROUNDS, load_sprites
from qasir.demo.train_packaged import (
    SceneBatches,
    Trainer,
    TrainingPlan,
    encode_window,
    model_config,
    packaged_config,
    train,
)
from qasir.errors import ModelError
from qasir.vlm.model import Vlm, resolve

PLAN = TrainingPlan(steps=4, tokens=144, texts=16, captions=8)


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
        return next(iter(SceneBatches(PLAN, grid=12, patch=16, first_step=first)))

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
    trainer = Trainer(PLAN, packaged_config())
    images = torch.randn(2, 3, 192, 192)
    with torch.no_grad():
        scene, patches = encode_window(trainer.model, images, (0, 0))
        expected = torch.nn.functional.normalize(trainer.model.visual(images), dim=-1)
    torch.testing.assert_close(scene, expected)
    assert patches.shape == (2, 144, 192)


def test_training_resumes_where_it_was_killed_and_exports_what_loads(tmp_path):
    whole = train(PLAN, packaged_config(), tmp_path / "whole")
    train(PLAN, packaged_config(), tmp_path / "parts", stop_after=2)
    again = train(PLAN, packaged_config(), tmp_path / "parts")
    assert again.step == PLAN.steps
    for ours, theirs in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    again.export(tmp_path / "qasir-tiny.safetensors")
    vlm = Vlm(resolve("qasir-tiny", str(tmp_path / "qasir-tiny.safetensors")))
    text = again.vocabulary.encode(again.model, ["a penguin on a blue background"]).detach().numpy()
    np.testing.assert_allclose(vlm.encode_texts(["a penguin on a blue background"]), text, atol=5e-3)


def test_a_model_of_another_size_loads_from_its_folder(tmp_path):
    config = model_config(Path(__file__).parents[3] / "benchmarks" / "models" / "qasir-nano.json")
    trainer = Trainer(PLAN, config)
    trainer.export_folder(tmp_path / "nano")
    vlm = Vlm(resolve(f"local-dir:{tmp_path / 'nano'}"))
    assert (vlm.embedding_dim, vlm.image_size) == (128, 192)
    text = trainer.vocabulary.encode(trainer.model, ["a penguin"]).detach().numpy()
    np.testing.assert_allclose(vlm.encode_texts(["a penguin"]), text, atol=5e-3)


def test_what_is_no_model_config_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no open_clip model config"):
        model_config(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"embed_dim": 3}')
    with pytest.raises(ModelError, match="it needs embed_dim, vision_cfg and text_cfg"):
        model_config(tmp_path / "x.json")
