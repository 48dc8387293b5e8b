"""Fine-tunes on Ray Train: workers stream batches from the index's tables with Ray Data and share gradients."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
import torch
from numpy.typing import NDArray
from ray.data import TaskPoolStrategy
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from pipelines.cluster import connect, graph_settings, node_cpus, total_gpus
from qasir.errors import QasirError, SpecError
from qasir.evaluation.evaluate import answerable
from qasir.evaluation.query_files import Query
from qasir.retrieval.searcher import IndexSearcher
from qasir.training.finetune.examples import Pairs, VideoRows, check_numbers, collate, load_videos, settled_batch_size
from qasir.training.finetune.objective import Batch
from qasir.training.finetune.saving import save_checkpoint
from qasir.training.finetune.train import Settings, Training, Validation
from qasir.training.state import check_same, load_state, save_state

log = logging.getLogger(__name__)

_WORKER_CPUS, _LOADER_CPUS, _LOADERS = 0.5, 0.1, 2
"""Small fractions, so that a machine of one CPU trains too."""
_FAILURES = 2
_POLL_S = 0.5

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Split:
    """An index and the queries about its videos."""

    searcher: IndexSearcher
    queries: list[Query]

    @classmethod
    def of(cls, searcher: IndexSearcher, queries: Sequence[Query]) -> "Split":
        """Raises QueryError when no query is about a video of the index, NoIndexError when it has none."""
        found, lost = answerable(searcher, queries)
        if lost:
            log.warning(
                "%d of %d queries are about videos that are not in the index at %s, %s first: left out",
                len(lost), len(queries), searcher.index.uri, lost[0].video_id,
            )  # fmt: skip
        return cls(searcher, found)

    def texts(self) -> NDArray[np.float32]:
        return self.searcher.encode([query.text for query in self.queries])


def finetune(
    train: Split, validation: Split, settings: Settings, output: Path, *, workers: int = 1,
    on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """Train, and leave the best checkpoint in `output`; a training that was killed there goes on after its last epoch.

    on_epoch gets every epoch's record, the first being zero-shot (epoch 0). Returns {best, zero_shot, history, epochs,
    parameters, seconds}. Raises SpecError when the folder holds a training with other settings, or the two indexes differ in encoder spec;
    UnreadableIndexError for numbers in a table that are not finite.
    """
    began = time.monotonic()
    dim = train.searcher.index.spec.embedding_dim
    n_parameters = Training(dim, settings, 1).model.n_parameters  # refuses what cannot be built, before any work
    _check_specs(train.searcher, validation.searcher)
    cells = settings.recipe.name == "eercf"
    for split in (train, validation):
        check_numbers(split.searcher.snapshot, cells=cells)
    pairs = Pairs.of(train.searcher.snapshot, train.queries, train.texts())
    batch_size = settled_batch_size(settings.batch_size, len(train.queries), workers)
    asked = _asked(train, validation, settings, batch_size, workers)
    output.mkdir(parents=True, exist_ok=True)
    check_same(output, asked)
    place = validation.searcher.videos.place
    held = Validation(
        validation.texts(),
        validation.searcher.images.features,
        np.array([place[query.video_id] for query in validation.queries]),
    )
    connect()
    told: Any = Queue(actor_options={"num_cpus": 0})
    config = {
        "settings": settings,
        "batch_size": batch_size,
        "pairs": ray.put(pairs),
        "validation": ray.put(held),
        "source": VideoRows.of(train.searcher.snapshot, cells=cells),
        "spec": train.searcher.index.spec,
        "output": str(output.absolute()),
        "asked": asked,
        "told": told,
        "threads": max(1, int(node_cpus()) // workers),
    }
    use_gpu = total_gpus() >= workers
    with tempfile.TemporaryDirectory() as storage:
        trainer = TorchTrainer(
            _train,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=use_gpu,
                resources_per_worker={"CPU": _WORKER_CPUS} | ({"GPU": 1} if use_gpu else {}),
            ),
            run_config=ray.train.RunConfig(
                storage_path=storage, failure_config=ray.train.FailureConfig(max_failures=_FAILURES)
            ),
        )
        with _Listening(told, on_epoch):
            try:
                trainer.fit()
            except Exception as error:  # Ray Train wraps what a worker raised in errors of its own
                raise QasirError(f"training failed: {_cause(error)}") from error
    state = load_state(output)
    assert state is not None
    history = state["history"]
    return {
        "best": state["best"],
        "zero_shot": history[0],
        "history": history,
        "epochs": state["epoch"],
        "parameters": n_parameters,
        "seconds": time.monotonic() - began,
    }


def _check_specs(train: IndexSearcher, validation: IndexSearcher) -> None:
    differences = train.index.spec.differences(validation.index.spec)
    if differences:
        lines = [
            f"  {name}: {ours} to train on, {theirs} to validate on" for name, (ours, theirs) in differences.items()
        ]
        raise SpecError(
            f"{train.index.uri} and {validation.index.uri} have different encoder specs:\n" + "\n".join(lines)
        )


def _asked(train: Split, validation: Split, settings: Settings, batch_size: int, workers: int) -> dict[str, Any]:
    """What must be the same for a training to go on."""
    splits = {"train": train, "validation": validation}
    facts: dict[str, Any] = {"workers": workers}
    for name, value in settings.describe().items():
        facts |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    facts["batch_size"] = batch_size
    for name, split in splits.items():
        facts[f"{name}_index"] = split.searcher.index.uri
        facts[f"{name}_versions"] = split.searcher.snapshot.images_dataset.version
        facts[f"{name}_queries"] = len(split.queries)
    return facts


@graph_settings(in_order=True)  # a batch that cannot be read ends the training
def _train(config: dict[str, Any]) -> None:
    """What every worker runs. The first one validates, and writes the checkpoint and the state after each epoch."""
    connect()
    settings: Settings = config["settings"]
    pairs: Pairs = ray.get(config["pairs"])
    validation: Validation = ray.get(config["validation"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(config["threads"])
    output = Path(config["output"])
    device = ray.train.torch.get_device()
    shared = {"rank": rank, "world": world}
    n_batches = len(pairs.batches(config["batch_size"], settings.seed, 0, **shared))
    training = Training(pairs.texts.shape[1], settings, n_batches, str(device))
    found = load_state(output)
    if found is not None:
        training.load_state(found)
    elif rank == 0:
        training.history.append(
            {"epoch": 0, "loss": None, **validation.metrics(training.model, settings.recipe), "seconds": 0.0}
        )
    if rank == 0:
        for record in training.history:
            config["told"].put(record)
    forward = ray.train.torch.prepare_model(training.objective) if world > 1 else training.objective
    while not training.is_over:
        since = time.monotonic()
        batches = pairs.batches(config["batch_size"], settings.seed, training.epoch, **shared)
        losses = training.run_epoch(_streamed(pairs, batches, config["source"]), forward, rank=rank)
        metrics = _shared(validation.metrics(training.model, settings.recipe) if rank == 0 else None, world)
        record = training.finish_epoch(losses, metrics, time.monotonic() - since)
        if rank == 0:
            save_state(output, config["asked"], training.state())
            if training.best is record:
                save_checkpoint(output, training, config["spec"], _trained(config, pairs))
            config["told"].put(record)
    if rank == 0 and training.best is not None:
        # Its weights are written already; the history and the curves of the epochs after it are not.
        save_checkpoint(output, training, config["spec"], _trained(config, pairs))


def _trained(config: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
    return {"queries": len(pairs.video), "videos": pairs.n_videos, **config["asked"]}


def _shared(metrics: dict[str, float] | None, world: int) -> dict[str, float]:
    """The first worker's metrics, so that all stop at the same epoch."""
    if world == 1:
        assert metrics is not None
        return metrics
    box: list[Any] = [metrics]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def _streamed(pairs: Pairs, batches: Sequence[NDArray[np.int64]], source: VideoRows) -> Iterator[Batch]:
    """The batches in order, their videos read by tasks some batches ahead."""
    load: Any = load_videos
    plans = [pairs.plan(batch) for batch in batches]
    tables: Iterator[Any] = iter(
        ray.data.from_arrow(plans)
        .map_batches(
            load,
            fn_kwargs={"source": source},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_LOADER_CPUS,
            compute=TaskPoolStrategy(size=_LOADERS),
        )
        .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    )
    waiting: list[pa.Table] = []
    for batch, plan in zip(batches, plans, strict=True):
        while sum(map(len, waiting)) < len(plan):
            waiting.append(next(tables))
        rows = pa.concat_tables(waiting)
        waiting = [rows.slice(len(plan))]
        yield collate(batch, pairs, rows.slice(0, len(plan)))


class _Listening:
    """Hands on what workers tell, from a thread, until what it surrounds has ended."""

    def __init__(self, told: Any, on_epoch: OnEpoch) -> None:
        self._told = told
        self._on_epoch = on_epoch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "_Listening":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self._told.shutdown()

    def _listen(self) -> None:
        while True:
            is_last = self._over.is_set()
            try:
                while True:
                    self._on_epoch(self._told.get(timeout=_POLL_S))
            except Empty:
                if is_last:
                    return


def _cause(error: BaseException) -> str:
    """The first line of what a worker raised."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    while getattr(error, "cause", None) is not None or error.__cause__ is not None:
        error = getattr(error, "cause", None) or error.__cause__  # type: ignore[assignment]
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
