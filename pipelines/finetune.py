"""Fine-tunes on Ray Train: workers share gradients, and tasks read the batches' videos from the index's tables ahead of
them."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.train
import ray.train.torch
import torch
from ray.data import TaskPoolStrategy
from ray.train.torch import TorchTrainer

from pipelines.attempts import twice_at_most
from pipelines.cluster import connect, graph_settings, node_cpus, total_gpus
from pipelines.listening import Listening
from qasir.errors import QasirError
from qasir.training.epochs import OnEpoch
from qasir.training.finetune import fit
from qasir.training.finetune.examples import VideoRows, load_videos
from qasir.training.finetune.fit import KIND, Place, is_over, result
from qasir.training.finetune.settings import Settings
from qasir.training.finetune.task import Split, Task
from qasir.training.state import TrainingState

_WORKER_CPUS, _LOADER_CPUS, _LOADERS = 0.5, 0.1, 2
"""Small fractions, so that a machine of one CPU trains too."""
_FAILURES = 2


def finetune(
    train: Split, validation: Split, settings: Settings, output: Path, *, workers: int = 1,
    on_epoch: OnEpoch = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """`qasir.training.finetune.fit.finetune` of `Task.of` these, by so many workers."""
    since = time.monotonic()
    task = Task.of(train, validation, settings, workers)
    if is_over(TrainingState.of(output, KIND, task.asked), settings):
        return fit.finetune(task, output, on_epoch=on_epoch)  # which has nothing left that needs workers
    output.mkdir(parents=True, exist_ok=True)
    connect()
    with tempfile.TemporaryDirectory() as storage, Listening(on_epoch) as listening:
        config = {
            "task": ray.put(task), "output": str(output.absolute()), "told": listening.told,
            "threads": max(1, int(node_cpus()) // workers),
        }  # fmt: skip
        use_gpu = total_gpus() >= workers
        resources = {"CPU": _WORKER_CPUS} | ({"GPU": 1.0} if use_gpu else {})
        trainer = TorchTrainer(
            _work,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers, use_gpu=use_gpu, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                storage_path=storage, failure_config=ray.train.FailureConfig(max_failures=_FAILURES)
            ),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray Train wraps what a worker raised in errors of its own
            raise QasirError(f"training failed: {_cause(error)}") from error
    return result(TrainingState.of(output, KIND, task.asked), time.monotonic() - since)


@graph_settings(in_order=True)  # a batch that cannot be read ends the training
def _work(config: dict[str, Any]) -> None:
    """What every worker runs."""
    connect()
    torch.set_num_threads(config["threads"])
    task: Task = ray.get(config["task"])
    context = ray.train.get_context()
    world = context.get_world_size()
    place = Place(context.get_world_rank(), world, str(ray.train.torch.get_device()))
    if world > 1:
        place = Place(place.rank, world, place.device, ray.train.torch.prepare_model)
    fit.fit(task, Path(config["output"]), lambda plans: _read(plans, task.source), place, config["told"].put)


def _read(plans: Sequence[pa.Table], source: VideoRows) -> Iterator[Any]:
    """The videos of batches, by tasks some batches ahead."""
    tables: Iterable[Any] = (
        ray.data.from_arrow(list(plans))
        .map_batches(
            twice_at_most(load_videos),
            fn_kwargs={"source": source},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_LOADER_CPUS,
            compute=TaskPoolStrategy(size=_LOADERS),
        )
        .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    )
    return iter(tables)


def _cause(error: BaseException) -> str:
    """The first line of what a worker raised."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        error = next(iter(failures.values()))
    while getattr(error, "cause", None) is not None or error.__cause__ is not None:
        error = getattr(error, "cause", None) or error.__cause__  # type: ignore[assignment]
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
