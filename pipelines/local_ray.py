"""When Ray is of this machine alone, and how it starts then: without the daemons that only a cluster or a person at a
dashboard has use for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray._private.node
import ray._private.services


def is_here() -> bool:
    """Whether this process has, or would start, a Ray of its own on this machine."""
    return not os.environ.get("RAY_ADDRESS")


@contextmanager
def few_daemons() -> Iterator[None]:
    """A Ray that starts inside has no autoscaler, no dashboard's server and nothing that carries logs to the driver:
    each is a Python process of half a second of a CPU and 60 MB or more, and `ray.init` waits for the second of them.

    `ray.init` has no options for that, so what starts them is left out.
    """
    node: Any = ray._private.node.Node
    services: Any = ray._private.services
    nothing_started: Any = ("", None)
    left_out = [
        (node, "start_monitor", None),
        (node, "start_log_monitor", None),
        (services, "start_api_server", nothing_started),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in left_out]
    try:
        for owner, name, result in left_out:
            setattr(owner, name, lambda *args, result=result, **options: result)
        yield
    finally:
        for owner, name, start in before:
            setattr(owner, name, start)
