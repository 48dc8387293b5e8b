"""How a video that is a folder of numbered pictures is written down: the folder and the rate of its pictures.

/frames/v1/?frame_rate=3                   pictures in a local folder, three a second
s3://bucket/frames/v1/?frame_rate=3        the same on an object store, after options of the store if it has some
/frames/*/?frame_rate=3                    what was listed to find such videos: a glob, a folder or a manifest
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from qasir.errors import CorpusError
from qasir.files.uris import RemoteUri, is_remote

MAX_FRAME_RATE = 1000
_FRAMES = re.compile(r"(?P<place>.*)[?&]frame_rate=(?P<rate>[0-9]+(?:\.[0-9]+)?(?:/[0-9]+)?)", re.DOTALL)


@dataclass(frozen=True)
class FramesUri:
    """`place` is the folder's path or URI, or what is listed; `rate` how many pictures a second."""

    place: str
    rate: Fraction

    @classmethod
    def parse(cls, uri: str) -> "FramesUri | None":
        """None for what names no pictures."""
        found = _FRAMES.fullmatch(uri)
        try:
            return None if found is None else cls(found["place"], frame_rate(found["rate"]))
        except CorpusError:  # a rate that is none, so a name that only looks like one
            return None

    @classmethod
    def of_folder(cls, uri: str, rate: Fraction) -> "FramesUri":
        """The pictures of a folder (a path or a URI, perhaps with options of the store)."""
        if is_remote(uri):
            parts = RemoteUri.parse(uri)
            return cls(parts.with_key(parts.key.rstrip("/") + "/"), rate)
        return cls(uri.rstrip("/") + "/", rate)

    def __str__(self) -> str:
        begins = "&" if is_remote(self.place) and RemoteUri.parse(self.place).query else "?"
        return f"{self.place}{begins}frame_rate={self.rate}"


def frame_rate(text: str) -> Fraction:
    """Pictures a second, from "3", "29.97" or "30000/1001". Raises CorpusError."""
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise CorpusError(f"frame rate {text!r}: give pictures a second, as 3, 29.97 or 30000/1001") from None
    if not 0 < rate <= MAX_FRAME_RATE:
        raise CorpusError(f"frame rate {text}: choose one above 0 and up to {MAX_FRAME_RATE} pictures a second")
    return rate
