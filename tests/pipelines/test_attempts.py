"""That Ray Data does not run a task again without end, and that nothing is called which newer versions of Ray drop."""

import os

import pyarrow as pa
import pytest
import ray

from pipelines.attempts import twice_at_most
from pipelines.cluster import graph_settings


def die(rows, folder):
    """Leave a file for each time that it is called, and kill the worker where the row is negative."""
    (number,) = rows["number"].to_pylist()
    if number < 0:
        (folder / f"{len(os.listdir(folder))}").touch()
        os.kill(os.getpid(), 9)
    yield rows


@pytest.mark.ray
def test_a_task_whose_worker_dies_is_run_twice_and_its_block_is_lost(local_ray, tmp_path):
    blocks = [pa.table({"number": [number]}) for number in (1, -1, 2)]
    with graph_settings(may_lose_blocks=True):
        graph = ray.data.from_arrow(blocks).map_batches(
            twice_at_most(die), fn_kwargs={"folder": tmp_path}, batch_format="pyarrow"
        )
        assert sorted(row["number"] for row in graph.iter_rows()) == [1, 2]
    assert len(os.listdir(tmp_path)) == 2
