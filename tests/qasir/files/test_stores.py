import threading

import pytest

from qasir.errors import UriError
from qasir.files.stores import RETRY_S, Stores

NOWHERE = "s3://bucket/a?region=nowhere&endpoint_override=http%3A%2F%2F127.0.0.1%3A9"


class Refusing(Stores):
    """Stores of which none can be reached until it is told otherwise; `tried` counts."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.tried = 0
        self.error: UriError | OSError | None = OSError("out of reach")

    def _open(self, parts):
        self.tried += 1
        return self.error or super()._open(parts)


def test_a_store_that_cannot_be_reached_is_tried_again_after_some_seconds():
    now = [0.0]
    stores = Refusing(lambda: now[0])
    for _ in range(3):
        with pytest.raises(OSError, match="out of reach"):
            stores.at(NOWHERE)
    assert stores.tried == 1, "not with every row of a manifest"
    stores.error, now[0] = None, RETRY_S
    assert stores.at(NOWHERE)[1] == "bucket/a"
    now[0] *= 9
    stores.at(NOWHERE)
    assert stores.tried == 2


def test_a_uri_that_is_none_stays_one():
    now = [0.0]
    stores = Refusing(lambda: now[0])
    stores.error = UriError("no such option")
    for _ in range(2):
        with pytest.raises(UriError, match="no such option"):
            stores.at(NOWHERE)
        now[0] += 2 * RETRY_S
    assert stores.tried == 1


def test_a_store_that_takes_long_to_open_holds_up_no_other():
    go, opening = threading.Event(), threading.Event()

    class Slow(Stores):
        def _open(self, parts):
            if parts.authority == "slow":
                opening.set()
                assert go.wait(30)
            return super()._open(parts)

    stores = Slow()
    asked = threading.Thread(target=stores.at, args=[NOWHERE.replace("bucket", "slow")])
    asked.start()
    assert opening.wait(30)
    assert stores.at(NOWHERE)[1] == "bucket/a"
    go.set()
    asked.join()
