"""The decoding tasks of the encoding graph: tiles go on to the encoders, reports past them to the driver. Imports no
torch, so that workers start fast."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.told import Told
from qasir.encoding.decode import Decoded
from qasir.encoding.reports import Report, reports_of
from qasir.encoding.rows import TILE_SCHEMA
from qasir.errors import QasirError


class ReportQueue:
    """Carries REPORT_SCHEMA rows from decoding tasks to the driver, by an actor on the driver's node, which only dies
    with it; and the driver's word that they stop to the tasks.

    A task has handed its reports over before its tiles go on, so all are there when the graph has ended. One that is
    retried tells the same again, which replaces what it told (`Committer.add`).
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(Told)
        self._told = actor.options(num_cpus=0, scheduling_strategy=here).remote()

    def tell(self, reports: pa.Table) -> bool:
        """Hand reports over; whether the task goes on with its next segment."""
        return bool(ray.get(self._told.tell.remote(reports)))

    def goes_on(self) -> bool:
        """Whether a task that begins has anything to do."""
        return bool(ray.get(self._told.goes_on.remote()))

    def told(self) -> Iterator[Report]:
        """What has been told since. Raises QasirError when the actor is gone."""
        try:
            tables = ray.get(self._told.collect.remote())
        except ray.exceptions.RayActorError as error:
            raise QasirError(
                "the actor that collects what decoders report has died; what is committed is kept, and the same "
                "command goes on from there"
            ) from error
        for table in tables:
            yield from reports_of(table)

    def go_on(self, yes: bool) -> None:
        """Have tasks end with the segment that they are at, and those that begin do nothing; or work again."""
        ray.get(self._told.go_on.remote(yes))

    def close(self) -> None:
        ray.kill(self._told)


def decode_and_report(
    segments: pa.Table, *, decode: Callable[..., Iterator[Decoded]], queue: ReportQueue, specs: Any, **limits: Any
) -> Iterator[pa.Table]:
    """TILE_SCHEMA tables of the segments, an empty one at least; of as many as the driver wants decoded."""
    if not queue.goes_on():
        yield TILE_SCHEMA.empty_table()
        return
    step_back()
    for part in decode(segments, specs, **limits):
        goes_on = not len(part.reports) or queue.tell(part.reports)
        yield part.tiles
        if not goes_on:
            return


_STEPS_BACK = 4


@cache
def step_back() -> None:
    """Let this process wait for the encoders of its machine, which load their models beside decoders that would
    otherwise take most of its CPUs, and later only have work that is decoded."""
    os.nice(_STEPS_BACK)
