"""Hands what workers tell to a function of the driver, while they work."""

import threading
from typing import Any

from ray.util.queue import Empty, Queue

from qasir.training.epochs import OnEpoch

_POLL_S = 0.5


class Listening:
    """`told` is the queue to put records into; on_epoch gets each, on a thread, until what this surrounds has ended."""

    def __init__(self, on_epoch: OnEpoch) -> None:
        self.told: Any = Queue(actor_options={"num_cpus": 0})
        self._on_epoch = on_epoch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Listening":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        self.told.shutdown()

    def _listen(self) -> None:
        while True:
            is_last = self._over.is_set()
            try:
                while True:
                    self._on_epoch(self.told.get(timeout=_POLL_S))
            except Empty:
                if is_last:
                    return
