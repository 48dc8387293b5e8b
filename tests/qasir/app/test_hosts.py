import pytest

from qasir.app.hosts import Authority, is_own_origin, may_be_called, parse_authority

KNOWN = [
    "localhost",
    "localhost:8765",
    "LOCALHOST:1",
    "localhost.",
    "localhost.:8765",
    "qasir.localhost",
    "127.0.0.1",
    "127.1.2.3:80",
    "[::1]",
    "[::1]:8765",
    "[0:0:0:0:0:0:0:1]",
    "192.168.1.5:8765",
    "[2001:db8::1]:443",
    "videos.example",
    "Videos.Example.:8765",
]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "sub.videos.example",
    "2130706433",
    "0x7f.1",
]
NO_HOST = [
    "",
    " ",
    ":8765",
    "user@localhost",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "localhost:",
    "localhost:x",
    "localhost:99999",
    "localhost:80:80",
    "localhost:-1",
    "localhost/",
    "localhost#",
    "localhost?x",
    "localhost\\",
    "localhost localhost",
    "localhost,evil.example",
    "localhost..",
    ".localhost",
    "..localhost",
    "::1",
    "[::1",
    "[::1]x",
    "[::1]:x",
    "[fe80::1%eth0]",
    "[fe80::1%25eth0]:80",
    "[localhost]",
    "[127.0.0.1]",
    "evil.example]",
    "http://localhost",
    "localhöst",
    "a" * 300,
]


def may(host):
    authority = parse_authority(host)
    return authority is not None and may_be_called(authority.name, {"videos.example"})


@pytest.mark.parametrize("host", KNOWN)
def test_names_of_the_loopback_addresses_and_known_ones_are_answered(host):
    assert may(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_name_is_none_of_them(host):
    assert parse_authority(host)
    assert not may(host)


@pytest.mark.parametrize("host", NO_HOST)
def test_what_names_no_host_is_not_taken_apart(host):
    assert parse_authority(host) is None


def test_an_authority_is_taken_apart():
    assert parse_authority("A.b.:80") == Authority("a.b", 80)
    assert parse_authority("[::1]:443") == Authority("[::1]", 443)
    assert parse_authority("[::1]") == Authority("[::1]", None)


def test_an_origin_is_the_hosts():
    here = Authority("localhost", 8765)
    assert is_own_origin("http://LOCALHOST:8765", here)
    assert is_own_origin("https://videos.example", Authority("videos.example", None)), "a proxy ends TLS"
    assert is_own_origin("https://videos.example", Authority("videos.example", 443))
    for foreign in ("http://localhost", "http://localhost:8766", "https://evil.example:8765", "null", "", "file://"):
        assert not is_own_origin(foreign, here), foreign
