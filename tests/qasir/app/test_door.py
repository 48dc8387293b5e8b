import pytest

from qasir.app.door import WRONG_S, WRONG_TOKENS, Door, WrongTokens
from qasir.errors import SpecError


def test_servers_on_two_ports_do_not_share_a_cookie():
    door = Door("t")
    (pair, *_) = door.cookie(8765, secure=False).split(";")
    assert door.knows_session([b"a=b", pair.encode() + b"; c=d"], 8765)
    assert not door.knows_session([pair.encode()], 8766)
    assert not door.knows_session([b"qasir_session_8765=\xff", b"qasir_session_8765", b"", b";;="], 8765)
    assert pair.partition("=")[2] != "t"
    with pytest.raises(SpecError, match="empty"):
        Door("")


def test_wrong_tokens_are_limited():
    now = [100.0]
    door = Door("t", WrongTokens(lambda: now[0]))
    for _ in range(WRONG_TOKENS):
        assert not door.knows(b"wrong", "2001:db8::1")
    assert not door.knows(b"t", "2001:db8::2"), "not even the right one is looked at, nor in its network"
    assert door.knows(b"t", "2001:db8:0:1::1")
    assert 0 < door.wait_s("2001:db8::1") <= WRONG_S
    now[0] += WRONG_S
    assert door.knows(b"t", "2001:db8::1")
    wrong = WrongTokens()
    for number in range(5000):
        wrong.count(f"10.0.{number // 256}.{number % 256}")
    assert len(wrong._counts) <= 1024
