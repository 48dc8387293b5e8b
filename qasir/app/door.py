"""The token that a client must know, the cookie that stands for it, and what wrong ones cost."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network

from qasir.errors import SpecError

COOKIE_S = 30 * 24 * 3600
"""How long a browser is let in by its cookie."""
WRONG_TOKENS = 10
"""So many from one address within `WRONG_S`; then its tokens are refused unseen until that time is over."""
WRONG_S = 60.0
_ADDRESSES = 1024


class WrongTokens:
    """Counts them by the client's address, those of IPv6 by their network of 64 bits. Keeps the last 1,024 addresses.

    clock: seconds, ever growing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}

    def wait_s(self, address: str) -> float:
        """How long an address has to wait until its next token is looked at; 0 if not at all."""
        count, since = self._counts.get(_network(address), (0, 0.0))
        return max(0.0, since + WRONG_S - self._clock()) if count >= WRONG_TOKENS else 0.0

    def count(self, address: str) -> None:
        network = _network(address)
        count, since = self._counts.pop(network, (0, self._clock()))
        if self._clock() >= since + WRONG_S:
            count, since = 0, self._clock()
        self._counts[network] = (count + 1, since)
        if len(self._counts) > _ADDRESSES:
            del self._counts[next(iter(self._counts))]


class Door:
    """Lets in whoever knows the token, or everyone where there is none.

    The cookie holds what scrypt makes of the token: the token cannot be read from it, nor guessed cheaply by trying
    cookies, and every replica of a server makes the same. A wrong cookie is therefore not counted: a browser sends an
    old one with every picture of a page.
    """

    def __init__(self, token: str | None, wrong: WrongTokens | None = None) -> None:
        if token == "":
            raise SpecError("the token is empty: give one that cannot be guessed")
        self.is_open = token is None
        self._token = (token or "").encode("utf-8", "surrogateescape")
        self._session = "" if self.is_open else _session(self._token)
        self._wrong = wrong or WrongTokens()

    def wait_s(self, address: str) -> float:
        """How long tokens from an address are refused unseen, after too many wrong ones."""
        return self._wrong.wait_s(address)

    def knows(self, token: bytes, address: str) -> bool:
        """Whether this is the token; a wrong one is counted. Never true while the address has to wait."""
        if self.is_open:
            return True
        if self.wait_s(address) > 0:
            return False
        if hmac.compare_digest(token, self._token):
            return True
        self._wrong.count(address)
        return False

    def knows_session(self, cookies: Iterable[bytes], port: int | None) -> bool:
        """Whether one of the Cookie headers has what `cookie` set for that port."""
        name = cookie_name(port).encode()
        pairs = (pair.strip().partition(b"=") for header in cookies for pair in header.split(b";"))
        session = self._session.encode()
        return any(hmac.compare_digest(value, session) for key, _, value in pairs if key == name)

    def cookie(self, port: int | None, *, secure: bool) -> str:
        """The value of Set-Cookie for whoever knew the token, where there is one. secure: whether it came by HTTPS."""
        value = f"{cookie_name(port)}={self._session}; Max-Age={COOKIE_S}; Path=/; HttpOnly; SameSite=Strict"
        return f"{value}; Secure" if secure else value


def cookie_name(port: int | None) -> str:
    """Browsers keep one set of cookies for all ports of a host: two servers must not overwrite each other's."""
    return "qasir_session" if port is None else f"qasir_session_{port}"


def _session(token: bytes) -> str:
    return hashlib.scrypt(token, salt=b"qasir session", n=1 << 14, r=8, p=1, dklen=32).hex()


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((int(parsed), 64), strict=False))
