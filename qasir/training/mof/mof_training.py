"""Trains with meta-optimised frames: base steps on the model, meta steps on the frames, and what each is compared with.

mof      base steps on the compressed frames, meta steps on them
plain    base steps on the K frames that mof starts from
dense    base steps on all frames of each video: the upper bound
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from qasir.errors import QueryError, SpecError
from qasir.evaluation.metrics import summarise, target_ranks
from qasir.evaluation.query_files import Query
from qasir.files.whole import write_bytes
from qasir.index.ragged import numbered
from qasir.retrieval.scoring import score
from qasir.retrieval.vectors import Features
from qasir.training.mof.clips import spread
from qasir.training.mof.frame_table import ClipTable, FrameBatch, FrameTable, PixelScale
from qasir.training.mof.objective import Clips, Objective, RetrievalModel, choose_weights, meta_gradient
from qasir.vlm.model import Vlm

METHODS = ("mof", "plain", "dense")
FRAMES_TABLE = "frames.lance"
MODEL = "model.safetensors"
_HALVED_EVERY = 30
_ENCODED_TOGETHER = 32


@dataclass(frozen=True)
class MofSettings:
    """The paper's defaults, but for the epochs (100 there). lr: of the model's AdamW; frame_lr: of the frames' Adam, halved every
    30 epochs; inner_lr: alpha; frames: K; dense_frames: |R|; clamp: keep frames to colours that exist."""

    frames: int = 4
    dense_frames: int = 32
    method: str = "mof"
    layers: str = "last"
    objective: Objective = field(default_factory=Objective)
    epochs: int = 10
    batch_size: int = 16
    lr: float = 1e-5
    frame_lr: float = 8e-4
    inner_lr: float = 1.0
    frame_steps_per_epoch: int = 1
    clamp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SpecError(f"method {self.method!r}: choose one of {', '.join(METHODS)}")
        if not 1 <= self.frames <= self.dense_frames:
            raise SpecError(
                f"{self.frames} frames of {self.dense_frames} dense ones: choose 1 <= frames <= dense frames"
            )
        if self.epochs < 1 or self.batch_size < 2 or self.frame_steps_per_epoch < 0:
            raise SpecError("epochs must be 1 or more, batches 2 or more, frame steps an epoch not below 0")
        if self.lr < 0 or self.frame_lr < 0 or self.inner_lr < 0:
            raise SpecError("learning rates must not be below 0")

    def describe(self) -> dict[str, Any]:
        flat = {name: value for name, value in asdict(self).items() if name != "objective"}
        return {**flat, **asdict(self.objective)}


class Material:
    """The clips of a set of videos and the queries about them."""

    def __init__(self, clips: ClipTable, queries: Sequence[Query], scale: PixelScale) -> None:
        self.clips = clips
        self.scale = scale
        there = set(clips.video_ids)
        self.queries = [query for query in queries if query.video_id in there]
        self.by_video: dict[str, list[str]] = {}
        for query in self.queries:
            self.by_video.setdefault(query.video_id, []).append(query.text)
        if not self.queries:
            raise QueryError(f"none of the {len(queries)} queries is about one of the {len(there)} videos")
        self.video_ids = sorted(self.by_video)

    def frames(self, video_ids: Sequence[str], k: int) -> Tensor:
        """(B, k, 3, S, S) evenly spaced frames of each video, in normalised pixels."""
        loaded = self.clips.load(video_ids)
        return torch.stack([self.scale.normalise(frames[spread(len(frames), k)]) for frames in loaded])


class MofTraining:
    """The model, its optimiser, the frames and how far they are; `folder` holds the frames' table."""

    def __init__(self, vlm: Vlm, settings: MofSettings, train: Material, validation: Material, folder: Path) -> None:
        torch.manual_seed(settings.seed)
        self.vlm, self.settings, self.train, self.validation, self.folder = vlm, settings, train, validation, folder
        if len(train.video_ids) < 2:
            raise QueryError("the training queries are about 1 video: contrast needs 2 or more")
        self.model = RetrievalModel(vlm.module).eval()  # dropout would make the meta gradient another function's
        self.weights = choose_weights(self.model, settings.layers)
        self.optimizer = torch.optim.AdamW(list(self.weights.values()), lr=settings.lr)
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.table: FrameTable | None = None

    # An epoch

    def start(self) -> None:
        """Make the table of frames, and record the validation before training."""
        if self.settings.method == "mof":
            ids, k = self.train.video_ids, self.settings.frames
            batches = _chunks(ids, self.settings.batch_size)
            self.table = FrameTable.start(
                str(self.folder / FRAMES_TABLE), ((some, self.train.frames(some, k)) for some in batches)
            )
        self.history.append({"epoch": 0, "seconds": 0.0, **self.validate()})

    def run_epoch(self) -> dict[str, float]:
        """A base pass over the training videos, then the meta passes; returns mean losses and the frames' displacement."""
        facts = {"base_loss": self._base_pass()}
        if self.settings.method == "mof":
            for number in range(self.settings.frame_steps_per_epoch):
                facts |= self._meta_pass(number)
        return facts

    def finish_epoch(self, facts: dict[str, float], seconds: float) -> dict[str, Any]:
        """Record the epoch; keep its weights if it is the best by validation SumR."""
        self.epoch += 1
        record = {"epoch": self.epoch, "seconds": seconds, **facts, **self.validate()}
        self.history.append(record)
        if self.best is None or record["SumR"] > self.best["SumR"]:
            self.best = record
            self.best_weights = {name: value.detach().cpu().clone() for name, value in self.weights.items()}
        return record

    def _base_pass(self) -> float:
        total, count = 0.0, 0
        for number, ids in enumerate(self._batches(self.epoch)):
            loss = self.settings.objective.loss(self.model, self.weights, self._clips(ids, number, self._inputs(ids)))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total, count = total + float(loss.detach()), count + 1
        return total / max(1, count)

    def _inputs(self, ids: Sequence[str]) -> Tensor:
        """What base steps train on."""
        if self.settings.method == "dense":
            return self.train.frames(ids, self.settings.dense_frames)
        if self.settings.method == "plain":
            return self.train.frames(ids, self.settings.frames)
        assert self.table is not None
        return self.table.load(ids).frames

    def _meta_pass(self, number: int) -> dict[str, float]:
        assert self.table is not None
        sums = {"compressed_loss": 0.0, "dense_loss": 0.0, "displacement": 0.0}
        count = 0

        def stepped() -> Iterator[FrameBatch]:
            nonlocal count
            assert self.table is not None
            for i, ids in enumerate(self._batches(self.epoch, "meta", number, whole=True)):
                batch = self.table.load(ids)
                if len(ids) > 1:  # one video alone has nothing to be told from
                    clips = self._clips(ids, i, batch.frames)
                    dense = self.train.frames(ids, self.settings.dense_frames).to(self.vlm.device)
                    found = meta_gradient(
                        self.settings.objective, self.model, self.weights, clips, dense, self.settings.inner_lr
                    )
                    batch.step(found.frames.cpu(), self.settings.frame_lr * 0.5 ** (self.epoch // _HALVED_EVERY))
                    if self.settings.clamp:
                        batch.frames = self.train.scale.clamp(batch.frames)
                    sums["compressed_loss"] += found.compressed * len(ids)
                    sums["dense_loss"] += found.dense * len(ids)
                sums["displacement"] += float(batch.displacement.sum())
                count += len(ids)
                yield batch

        self.table = self.table.rewritten(stepped())
        return {name: value / max(1, count) for name, value in sums.items()}

    def _batches(self, epoch: int, *salt: Any, whole: bool = False) -> list[list[str]]:
        """The training videos in batches, in an order that follows from seed and epoch. whole: the last, short one too."""
        rng = np.random.default_rng(
            [self.settings.seed, epoch, *(ord(s[0]) if isinstance(s, str) else s for s in salt)]
        )
        order = [self.train.video_ids[i] for i in rng.permutation(len(self.train.video_ids))]
        size = min(self.settings.batch_size, len(order))
        batches = _chunks(order, size)
        return batches if whole or len(batches[-1]) == size else batches[:-1]

    def _clips(self, ids: Sequence[str], number: int, frames: Tensor) -> Clips:
        """Each video with one of its captions, drawn by seed, epoch and batch."""
        rng = np.random.default_rng([self.settings.seed, self.epoch, number, 1])
        texts = [self.train.by_video[video_id][rng.integers(len(self.train.by_video[video_id]))] for video_id in ids]
        device = self.vlm.device
        return Clips(self.vlm.tokens(texts), frames.to(device), torch.arange(len(ids), device=device))

    # Measuring

    def validate(self) -> dict[str, float]:
        """Metrics on the validation videos at K raw frames, which is what such a model meets in use."""
        return self.metrics(self.validation, self.validation.frames, self.settings.frames)

    def metrics(self, material: Material, frames: Callable[[Sequence[str], int], Tensor], k: int) -> dict[str, float]:
        """Those of `qasir.evaluation.metrics.summarise`: every query of the material against its videos by their frames(ids, k)."""
        return summarise(self.ranks(material, frames, k))

    def ranks(self, material: Material, frames: Callable[[Sequence[str], int], Tensor], k: int) -> NDArray[np.int64]:
        """(Q,) the rank of each query's video."""
        ids = material.video_ids
        with torch.no_grad():
            parts = []
            for some in _chunks(ids, _ENCODED_TOGETHER):
                _, images = self.model(None, frames(some, k).to(self.vlm.device))
                parts.append(images.float().cpu().numpy())
        vectors = np.concatenate(parts)
        features = Features(
            np.arange(len(ids)) * k, np.full(len(ids), k), np.ascontiguousarray(vectors.reshape(-1, vectors.shape[-1]))
        )
        texts = self.vlm.encode_texts([query.text for query in material.queries])
        place = numbered(ids)
        target = np.array([place[query.video_id] for query in material.queries])
        values = score(texts, features, self.settings.objective.scoring)
        return target_ranks(values, target)

    def compressed(self, video_ids: Sequence[str], k: int) -> Tensor:
        """The learned frames, for `metrics`: the corpus side where the corpus itself was optimised."""
        assert self.table is not None
        return self.table.load(video_ids).frames

    # Going on, and the result

    def state(self) -> dict[str, Any]:
        return {
            "weights": {name: value.detach().cpu() for name, value in self.weights.items()},
            "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "history": self.history, "best": self.best,
            "best_weights": self.best_weights, "frames_version": self.table.version if self.table else None,
        }  # fmt: skip

    def load_state(self, state: dict[str, Any]) -> None:
        self.use(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]
        self.best, self.best_weights = state["best"], state["best_weights"]
        if state["frames_version"] is not None:
            self.table = FrameTable(str(self.folder / FRAMES_TABLE), state["frames_version"])

    def use(self, weights: dict[str, Tensor]) -> None:
        """Put these weights into the model."""
        with torch.no_grad():
            for name, value in weights.items():
                self.weights[name].copy_(value)

    def export(self, path: Path) -> None:
        """Write the model with its best weights as an open_clip checkpoint."""
        now = {name: value.detach().clone() for name, value in self.weights.items()}
        self.use(self.best_weights)
        write_bytes(
            path,
            save({name: value.detach().cpu().contiguous() for name, value in self.vlm.module.state_dict().items()}),
        )
        self.use(now)


def _chunks(items: Sequence[str], size: int) -> list[list[str]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
