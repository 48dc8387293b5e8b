"""By which names the server may be called, and whether a page that calls it is its own."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_PORT = re.compile(r"[0-9]{1,5}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Authority:
    """A host as a URL names it: lower case, without the last dot; an IPv6 address in brackets. port: None if unsaid."""

    name: str
    port: int | None


def parse_authority(value: str) -> Authority | None:
    """Of `name`, `name:port`, an IPv4 address or one of IPv6 in brackets; None if it is anything else: with a user, a
    zone or a path, without a name."""
    name, bracket, rest = value.lower().rpartition("]")
    if bracket:
        name += bracket
        colon, port = rest[:1], rest[1:]
        if (rest and colon != ":") or not _is_ipv6(name):
            return None
    else:
        name, colon, port = rest.partition(":")
        name = name.removesuffix(".")
        if len(name) > 253 or not _NAME.fullmatch(name):
            return None
    if not colon:
        return Authority(name, None)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    return Authority(name, int(port))


def may_be_called(name: str, hosts: Collection[str]) -> bool:
    """Whether the server answers to a name. DNS rebinding needs a name of the attacker's: addresses are none, names of
    the loopback are not his; hosts: the others that are known, in lower case."""
    return name == "localhost" or name.endswith(".localhost") or name in hosts or _is_ipv4(name) or _is_ipv6(name)


def is_own_origin(origin: str, host: Authority) -> bool:
    """Whether `scheme://host[:port]` is where the request went. Only the scheme that the browser sees counts: a proxy
    in front may end TLS."""
    scheme, separator, rest = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme.lower())
    authority = parse_authority(rest)
    if not separator or default is None or authority is None or authority.name != host.name:
        return False
    return (authority.port or default) == (host.port or default)


def _is_ipv4(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True


def _is_ipv6(name: str) -> bool:
    if not (name.startswith("[") and name.endswith("]")) or "%" in name:
        return False
    try:
        IPv6Address(name[1:-1])
    except AddressValueError:
        return False
    return True
