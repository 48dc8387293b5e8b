"""Trains with meta-optimised frames: base steps on the model, meta steps on the frames, and what each is compared with.

mof      base steps on the compressed frames, meta steps on them
plain    base steps on the K frames that mof starts from
dense    base steps on all frames of each video: the upper bound
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from qasir.errors import QueryError
from qasir.evaluation.metrics import summarise
from qasir.files.whole import write_bytes
from qasir.training.mof.frame_table import FrameBatch, FrameTable
from qasir.training.mof.material import Material, chunks
from qasir.training.mof.meta_gradient import Clips, loss_of, meta_gradient
from qasir.training.mof.settings import MofSettings
from qasir.training.mof.trainable import RetrievalModel, choose_weights
from qasir.training.state import TrainingState
from qasir.vlm.model import Vlm

FRAMES_TABLE = "frames.lance"
MODEL = "model.safetensors"
_HALVED_EVERY = 30


class MofTraining:
    """The model, its optimiser, the frames and how far they are; `folder` holds the frames' table."""

    def __init__(
        self, vlm: Vlm, settings: MofSettings, train: Material, validation: Material, folder: Path,
        state: TrainingState,
    ) -> None:  # fmt: skip
        torch.manual_seed(settings.seed)
        self.vlm, self.settings, self.train, self.validation, self.folder = vlm, settings, train, validation, folder
        self.state = state
        if len(train.video_ids) < 2:
            raise QueryError("the training queries are about 1 video: contrast needs 2 or more")
        self.model = RetrievalModel(vlm.module).eval()  # dropout would make the meta gradient another function's
        self._weights = choose_weights(self.model, settings.layers)
        self.optimizer = torch.optim.AdamW(list(self._weights.values()), lr=settings.lr)
        self.table: FrameTable | None = None

    @property
    def is_over(self) -> bool:
        return self.state.position >= self.settings.epochs

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return self._weights

    def start(self) -> dict[str, Any]:
        """Make the table of frames, and validate before training."""
        if self.settings.method == "mof":
            ids, k = self.train.video_ids, self.settings.frames
            batches = chunks(ids, self.settings.batch_size)
            self.table = FrameTable.start(
                str(self.folder / FRAMES_TABLE), ((some, self.train.frames(some, k)) for some in batches)
            )
        return self._validated()

    def run_epoch(self) -> dict[str, Any]:
        """A base pass over the training videos, then the meta passes; returns mean losses, the frames' displacement and
        metrics."""
        facts = {"base_loss": self._base_pass()}
        if self.settings.method == "mof":
            for number in range(self.settings.frame_steps_per_epoch):
                facts |= self._meta_pass(number)
        return {**facts, **self._validated()}

    def _base_pass(self) -> float:
        total, count = 0.0, 0
        for number, ids in enumerate(self._batches(self.state.position)):
            loss = loss_of(
                self.settings.objective, self.model, self._weights, self._clips(ids, number, self._inputs(ids))
            )
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
            for i, ids in enumerate(self._batches(self.state.position, "meta", number, whole=True)):
                batch = self.table.load(ids)
                if len(ids) > 1:  # one video alone has nothing to be told from
                    clips = self._clips(ids, i, batch.frames)
                    dense = self.train.frames(ids, self.settings.dense_frames).to(self.vlm.device)
                    found = meta_gradient(
                        self.settings.objective, self.model, self._weights, clips, dense, self.settings.inner_lr
                    )
                    batch.step(
                        found.frames.cpu(), self.settings.frame_lr * 0.5 ** (self.state.position // _HALVED_EVERY)
                    )
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
        """The training videos in batches, in an order that follows from seed and epoch. whole: the last, short one
        too."""
        rng = np.random.default_rng(
            [self.settings.seed, epoch, *(ord(s[0]) if isinstance(s, str) else s for s in salt)]
        )
        order = [self.train.video_ids[i] for i in rng.permutation(len(self.train.video_ids))]
        size = min(self.settings.batch_size, len(order))
        batches = chunks(order, size)
        return batches if whole or len(batches[-1]) == size else batches[:-1]

    def _clips(self, ids: Sequence[str], number: int, frames: Tensor) -> Clips:
        """Each video with one of its captions, drawn by seed, epoch and batch."""
        rng = np.random.default_rng([self.settings.seed, self.state.position, number, 1])
        texts = [self.train.by_video[video_id][rng.integers(len(self.train.by_video[video_id]))] for video_id in ids]
        device = self.vlm.device
        return Clips(self.vlm.tokens(texts), frames.to(device), torch.arange(len(ids), device=device))

    def _validated(self) -> dict[str, float]:
        """Metrics on the validation videos at K raw frames, which is what such a model meets in use."""
        frames = partial(self.validation.frames, k=self.settings.frames)
        return summarise(self.validation.ranks(self.vlm, frames, self.settings.objective.scoring))

    # Going on, and the result

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": {name: value.detach().cpu() for name, value in self._weights.items()},
            "optimizer": self.optimizer.state_dict(), "frames_version": self.table.version if self.table else None,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._use(state_dict["weights"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if state_dict["frames_version"] is not None:
            self.table = FrameTable(str(self.folder / FRAMES_TABLE), state_dict["frames_version"])

    def saved(self) -> None:
        if self.table is not None:
            self.table.forget_older()

    def export(self, folder: Path) -> None:
        """Write the model with its best weights as an open_clip checkpoint."""
        now = {name: value.detach().clone() for name, value in self._weights.items()}
        self._use(self.state.best_weights)
        stored = {name: value.detach().cpu().contiguous() for name, value in self.vlm.module.state_dict().items()}
        write_bytes(folder / MODEL, save(stored))
        self._use(now)

    def _use(self, weights: Mapping[str, Tensor]) -> None:
        """Put these weights into the model."""
        with torch.no_grad():
            for name, value in weights.items():
                self._weights[name].copy_(value)
