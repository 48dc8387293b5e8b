"""What a server of the page allows, and how much of everything at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AppSettings:
    """allow_sql: whether filters may be SQL; the others (length, date, folder, codec) always work.

    token: what a client must know; None on loopback only. hosts: names, besides loopback ones and addresses, by which
    the server may be called. query_characters, picture_bytes: a longer query or a larger picture is refused. requests,
    clips: how many of them are worked on at once. clip_s: the longest clip, in seconds. cache_bytes: disk for clips and
    frames.
    """

    allow_sql: bool = True
    token: str | None = None
    hosts: tuple[str, ...] = ()
    query_characters: int = 1000
    picture_bytes: int = 20 << 20
    requests: int = 64
    clips: int = 2
    clip_s: float = 600.0
    cache_bytes: int = 2 << 30
