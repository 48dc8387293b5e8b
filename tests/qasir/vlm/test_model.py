import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qasir.errors import ModelError, QueryError
from qasir.video.super_image import cell_overlap
from qasir.vlm.build import build
from qasir.vlm.casting import cast_whole
from qasir.vlm.image_tower import ImageTower, _pooled
from qasir.vlm.model import Vlm
from qasir.vlm.open_clip_import import open_clip
from qasir.vlm.precision import resolve_precision
from qasir.vlm.weights import resolve

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny() -> Vlm:
    return Vlm(resolve("qasir-tiny"))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 255, (3, 192, 192, 3), np.uint8)


def write_model(folder, config):
    """A folder for local-dir: with a model of random weights."""
    model = open_clip.CLIP(**config)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3}})
    )
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A local-dir: model with random weights of its own."""
    return write_model(tmp_path, CONFIG)


def normalised(vlm, pictures):
    """(B, 3, S, S) of what open_clip's towers take."""
    mean, std = (torch.tensor(values) for values in vlm.pixel_scale)
    return ((torch.from_numpy(pictures) / 255.0 - mean) / std).permute(0, 3, 1, 2)


def test_the_packaged_model_is_an_open_clip_model(tiny, pictures):
    """Our path gives what open_clip's own calls give."""
    embeddings, cells = tiny.encode_images(pictures)
    assert cells is None
    model, _, _ = open_clip.create_model_and_transforms("qasir-tiny", str(tiny.source.checkpoint))
    with torch.no_grad():
        expected = model.eval().encode_image(normalised(tiny, pictures), normalize=True).numpy()
        text = model.encode_text(open_clip.get_tokenizer("qasir-tiny")(["a penguin"]), normalize=True).numpy()
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    np.testing.assert_allclose(tiny.encode_texts(["a penguin"]), text, atol=1e-6)


def test_the_package_stays_small(tiny):
    assert tiny.source.checkpoint.stat().st_size < 20e6


def test_cells_are_pooled_patch_tokens_projected_like_the_class_token(tiny, pictures):
    embeddings, cells = tiny.encode_images(pictures, grid=3)
    assert cells.shape == (3, 9, 192)
    np.testing.assert_allclose(np.linalg.norm(cells, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(embeddings, tiny.encode_images(pictures)[0], atol=1e-5)
    tower = tiny.module.visual
    blocks = []
    hook = tower.transformer.register_forward_hook(lambda module, given, result: blocks.append(result))
    with torch.no_grad():
        tower(normalised(tiny, pictures))
        hook.remove()
        tokens = tower.ln_post(blocks[0])[:, 1:].numpy()
    pooled = np.einsum("cp,bpw->bcw", cell_overlap(192, 3, 12), tokens) @ tower.proj.detach().numpy()
    np.testing.assert_allclose(cells, pooled / np.linalg.norm(pooled, axis=-1, keepdims=True), atol=1e-5)


def test_another_image_size_interpolates_position_embeddings(caplog):
    vlm = Vlm(resolve("qasir-tiny"), image_size=256)
    assert vlm.image_size == 256
    assert "randomly" not in caplog.text
    embeddings, cells = vlm.encode_images(np.zeros((1, 256, 256, 3), np.uint8), grid=2)
    assert embeddings.shape == (1, 192)
    assert cells.shape == (1, 4, 192)


def test_bf16_stays_close_to_fp32(tiny, pictures):
    low = Vlm(resolve("qasir-tiny"), precision="bf16").encode_images(pictures, grid=3)
    high = tiny.encode_images(pictures, grid=3)
    for a, b in zip(low, high, strict=True):
        assert (a * b).sum(-1).min() > 0.99


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_encoder_holds_the_image_tower_alone(tiny, pictures, precision):
    tower = ImageTower.load(resolve("qasir-tiny"), precision=precision, device="cpu")
    whole = Vlm(resolve("qasir-tiny"), precision=precision, device="cpu")
    for ours, theirs in zip(tower.encode_images(pictures, grid=3), whole.encode_images(pictures, grid=3), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    held = sum(p.numel() for p in tower.module.parameters())
    assert held < sum(p.numel() for p in tiny.module.parameters()) / 2
    assert type(tower.module) is type(tiny.module.visual)


def test_weights_cast_once_give_what_autocast_gives(tiny, pictures):
    """Bit for bit, so that an index made before can be extended."""
    tower = ImageTower.load(resolve("qasir-tiny"), precision="bf16", device="cpu")
    assert {each.dtype for each in tower.module.parameters()} == {torch.bfloat16, torch.float32}
    embeddings, cells = tower.encode_images(pictures, grid=3)
    visual = tiny.module.visual
    visual.output_tokens = True
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            pooled, tokens = visual(normalised(tiny, pictures))
            pool = torch.from_numpy(cell_overlap(192, 3, 12))
            expected = (pool @ tokens.float()) @ visual.proj.float()
    finally:
        visual.output_tokens = False
    np.testing.assert_array_equal(embeddings, F.normalize(pooled.float(), dim=-1).numpy())
    np.testing.assert_array_equal(cells, F.normalize(expected.float(), dim=-1).numpy())


@pytest.mark.parametrize("tower", [{}, {"pool_type": "avg", "final_ln_after_pool": True}, {"attentional_pool": True}])
def test_a_tower_cast_as_a_whole_stays_comparable(tmp_path, tower):
    """What GPUs compute a ViT in: an index made under autocast can be extended."""
    config = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], **tower}}
    source = resolve(f"local-dir:{write_model(tmp_path, config)}")
    visual = build(source, None).visual.eval()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = F.normalize(_pooled(visual(images)).float(), dim=-1)
    cast_whole(visual, torch.bfloat16)
    with torch.no_grad():
        now = F.normalize(_pooled(visual(images.bfloat16())).float(), dim=-1)
    assert (before * now).sum(-1).min() > 0.9999


def test_a_tower_of_timm_s_is_cast_and_computes(tmp_path):
    tower = {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224}
    config = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], **tower}}
    source = resolve(f"local-dir:{write_model(tmp_path, config)}")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), np.uint8)
    low = ImageTower.load(source, precision="bf16", device="cpu")
    assert torch.bfloat16 in {each.dtype for each in low.module.parameters()}
    high = ImageTower.load(source, device="cpu").encode_images(pixels)[0]
    assert (low.encode_images(pixels)[0] * high).sum(-1).min() > 0.99


def test_threads_share_a_tower(tiny, pictures):
    """With cells and without at once, as calls under way together are."""
    batches = [np.roll(pictures, 16 * number, axis=1) for number in range(8)]
    grids = [3, None] * 4
    alone = [tiny.encode_images(pixels, grid=grid) for pixels, grid in zip(batches, grids, strict=True)]
    later = [tiny.images.submit(pixels, grid=grid) for pixels, grid in zip(batches, grids, strict=True)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda pixels, grid: tiny.encode_images(pixels, grid=grid), batches, grids))
    for expected, *others in zip(alone, together, (each() for each in later), strict=True):
        for embeddings, cells in others:
            np.testing.assert_array_equal(embeddings, expected[0])
            np.testing.assert_array_equal(cells, expected[1])


def test_local_dir_and_checkpoint_path(folder, tmp_path):
    vlm = Vlm(resolve(f"local-dir:{folder}"))
    assert vlm.embedding_dim == 32
    assert vlm.image_size == 64
    assert vlm.source.fingerprint().startswith("sha256:")
    assert vlm.pixel_scale[0] == (0.5, 0.5, 0.5)
    black = np.zeros((1, 64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = vlm.module.encode_image(normalised(vlm, black), normalize=True).numpy()
    np.testing.assert_allclose(vlm.encode_images(black)[0], expected, atol=1e-5)
    again = Vlm(resolve("qasir-tiny", str(resolve("qasir-tiny").checkpoint)))
    assert again.source.fingerprint() == resolve("qasir-tiny").fingerprint()


def test_missing_weights_are_an_error_never_random(folder):
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="no weights file"):
        resolve(f"local-dir:{folder}")
    with pytest.raises(ModelError, match="open_clip_config.json"):
        resolve("local-dir:/nowhere")
    with pytest.raises(ModelError, match=r"needs --pretrained.*laion2b_s34b_b79k"):
        resolve("ViT-B-32")
    with pytest.raises(ModelError, match=r"no weights 'nope'.*openai"):
        resolve("ViT-B-32", "nope")


def test_a_checkpoint_of_another_model_is_an_error(folder):
    with pytest.raises(ModelError, match="cannot load 'qasir-tiny'"):
        Vlm(resolve("qasir-tiny", str(folder / "open_clip_pytorch_model.bin")))


def test_an_unknown_model_says_which_exist():
    with pytest.raises(ModelError, match=r"did you mean .*ViT-B-32.*models are .*qasir-tiny"):
        resolve("VIT-B32")


@pytest.mark.parametrize(
    "tower", [{"attentional_pool": True}, {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224}]
)
def test_a_model_without_patch_projection_refuses_cells(tmp_path, tower):
    config = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], **tower}}
    vlm = Vlm(resolve(f"local-dir:{write_model(tmp_path, config)}"))
    side = vlm.image_size
    assert vlm.encode_images(np.zeros((1, side, side, 3), np.uint8))[0].shape == (1, 32)
    with pytest.raises(ModelError, match="--no-cells"):
        vlm.check_cells()


def test_empty_and_endless_queries(tiny):
    with pytest.raises(QueryError, match="empty"):
        tiny.encode_texts(["  "])
    with pytest.raises(QueryError, match="10,001 characters"):
        tiny.encode_texts(["a" * 10_001])
    assert tiny.encode_texts(["penguin " * 500]).shape == (1, 192)


def test_auto_precision_is_bf16_only_where_it_is_fast(monkeypatch):
    assert resolve_precision("auto", device_type=lambda: "cuda") == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert resolve_precision("auto", device_type=lambda: "cpu") == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert resolve_precision("auto", device_type=lambda: "cpu") == "fp32"
    with pytest.raises(ModelError, match="fp16"):
        resolve_precision("fp16", device_type=lambda: "cpu")


def test_a_long_query_is_cut_off_and_that_is_said_once(tiny, caplog):
    long = ("a penguin on a blue background " * 400)[:10_000]
    vlm = Vlm(resolve("qasir-tiny"))
    with caplog.at_level("WARNING", logger="qasir"):
        vlm.encode_texts(["a short one"])
        assert not caplog.records
        first = vlm.encode_texts([long])
        vlm.encode_texts([long])
    assert ["up to 24 tokens" in record.message for record in caplog.records] == [True]
    np.testing.assert_allclose(first, vlm.encode_texts([long[:300]]), atol=1e-6)
    with pytest.raises(QueryError, match="10,001 characters"):
        vlm.encode_texts([long + "x"])
