from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from qasir.training.mof.clip_table import ClipTable
from qasir.training.mof.clips import CLIPS_SCHEMA, spread
from qasir.training.mof.frame_table import FrameTable
from qasir.training.mof.pixels import PixelScale

SCALE = PixelScale((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
IDS = [f"v{i}" for i in range(7)]


def frames_of(ids, k=2, side=4):
    return torch.stack([torch.full((k, 3, side, side), float(video_id[1:])) for video_id in ids])


@pytest.fixture
def table(tmp_path):
    return FrameTable.start(
        str(tmp_path / "frames.lance"), [(IDS[:4], frames_of(IDS[:4])), (IDS[4:], frames_of(IDS[4:]))]
    )


def passed(table, groups, gradient=1.0, lr=0.1):
    def batches():
        for ids in groups:
            batch = table.load(ids)
            batch.step(torch.full_like(batch.frames, gradient), lr)
            yield batch

    return table.rewritten(batches())


def test_videos_are_found_whatever_their_order(table):
    assert table.shape == (2, 3, 4, 4)
    batch = table.load(["v5", "v0"])
    assert batch.frames[:, 0, 0, 0, 0].tolist() == [5.0, 0.0]
    turned = passed(table, [["v6", "v1"], ["v5", "v0", "v2"], ["v4", "v3"]])
    moved = turned.load(["v5", "v0"])
    np.testing.assert_allclose(moved.frames[:, 0, 0, 0, 0], [4.9, -0.1], atol=1e-5)
    assert moved.steps.tolist() == [1, 1]
    np.testing.assert_allclose(moved.displacement, 0.1, atol=1e-5)


def test_steps_are_adam(table):
    """As torch takes them, over several passes with the state from the table."""
    reference = torch.zeros(2, 3, 4, 4, requires_grad=True)
    adam = torch.optim.Adam([reference], lr=0.05, betas=(0.5, 0.999))
    for gradient in (1.0, -0.3, 2.0):
        reference.grad = torch.full_like(reference, gradient)
        adam.step()
        table = passed(table, [IDS[:3], IDS[3:]], gradient, 0.05)
    np.testing.assert_allclose(table.load(["v0"]).frames[0].numpy(), reference.detach().numpy(), atol=1e-6)


def size_on_disk(uri):
    return sum(path.stat().st_size for path in Path(uri).rglob("*") if path.is_file())


def test_the_table_on_disk_does_not_grow_with_passes(table):
    sizes = []
    for _ in range(6):
        table = passed(table, [IDS[:3], IDS[3:]])
        table.forget_older()
        sizes.append(size_on_disk(table.uri))
    assert max(sizes[1:]) <= 1.1 * sizes[0]


def test_a_pass_that_stops_halfway_changes_nothing(table):
    def batches():
        batch = table.load(IDS[:3])
        batch.step(torch.ones_like(batch.frames), 1.0)
        yield batch
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.rewritten(batches())
    again = FrameTable(table.uri)
    assert again.version == table.version
    assert torch.equal(again.load(IDS).frames, frames_of(IDS))
    passed(again, [IDS]).forget_older()


def test_an_older_version_is_still_there_until_it_is_forgotten(table):
    new = passed(table, [IDS])
    assert torch.equal(FrameTable(table.uri, table.version).load(["v3"]).frames, frames_of(["v3"]))
    new.forget_older()
    with pytest.raises((ValueError, OSError)):
        FrameTable(table.uri, table.version)


def test_pixels_go_there_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    values = SCALE.normalise(pixels)
    assert values.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(values[0, 1, 2, 3], (pixels[0, 2, 3, 1] / 255 - 0.4) / 0.25, rtol=1e-5)
    np.testing.assert_array_equal(SCALE.pixels(values), pixels)
    clamped = SCALE.clamp(values * 3)
    assert not torch.equal(clamped, values * 3)
    np.testing.assert_allclose(SCALE.clamp(clamped), clamped)
    np.testing.assert_array_equal(SCALE.pixels(clamped), SCALE.pixels(values * 3))


def test_clips_are_read_by_video(tmp_path):
    made = {
        video_id: np.random.default_rng(i).integers(0, 256, (i + 1, 4, 4, 3), np.uint8)
        for i, video_id in enumerate(IDS)
    }
    tables = [
        pa.table({"video_id": [video_id], "n_frames": [len(frames)], "frames": [frames.tobytes()]}, schema=CLIPS_SCHEMA)
        for video_id, frames in made.items()
    ]
    clips = ClipTable.write(str(tmp_path / "clips.lance"), tables, {"side": 4})
    for video_id, frames in zip(["v6", "v2"], clips.load(["v6", "v2"]), strict=True):
        np.testing.assert_array_equal(frames, made[video_id])


@pytest.mark.parametrize(
    ("n", "k", "expected"), [(10, 2, [2, 7]), (4, 4, [0, 1, 2, 3]), (1, 3, [0, 0, 0]), (3, 5, [0, 0, 1, 2, 2])]
)
def test_frames_are_spread_evenly(n, k, expected):
    assert spread(n, k).tolist() == expected
