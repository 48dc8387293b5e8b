"""One video of a corpus: its id, where it is, and what a look at its file said."""

import errno
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import stat_result
from typing import Any

from qasir.files.uris import is_remote, shown

MISSING = "missing"
"""The fingerprint of a video that was named and is not there."""
UNREACHABLE = "unreachable"
"""The fingerprint of a video of which nobody can say whether it is there and changed: no permission, an object store's
error, a URI that is refused. What an index has of it stays."""

_TIME_NS = re.compile(r"\d+-(-?\d+)(?:-|$)")
"""In a fingerprint, behind the size; of a folder of pictures more follows."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000  # nanoseconds
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True)
class VideoFile:
    """One video to encode. The fingerprint changes when the file does (size and modification time; of a folder of
    pictures `qasir.video.pictures_in` says what).

    uri: as `qasir.files.uris` writes it. problem: why there is nothing to open; such a video fails as `io`.
    """

    video_id: str
    uri: str
    size_bytes: int
    fingerprint: str
    problem: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """What of it stands in the row of a report."""
        return {
            "video_id": self.video_id, "uri": self.uri, "size_bytes": self.size_bytes, "fingerprint": self.fingerprint,
        }  # fmt: skip


def is_same_version(uri: str, one: str, other: str) -> bool:
    """Whether two fingerprints of a file are of one version of it. On object stores the times of listings may have
    fractions of a second, which a look at one object leaves out."""
    if one == other or not is_remote(uri):
        return one == other
    (size, _, time_ns), (its_size, _, its_time_ns) = one.partition("-"), other.partition("-")
    if not (time_ns.isdigit() and its_time_ns.isdigit()):
        return False
    return size == its_size and int(time_ns) // _SECOND == int(its_time_ns) // _SECOND


def modified_at(fingerprint: str) -> datetime | None:
    """When the file of this fingerprint was changed last; None where the listing knew no time."""
    found = _TIME_NS.match(fingerprint)
    if found is None:
        return None
    try:
        time_ns = int(found[1])
        return _EPOCH + timedelta(microseconds=time_ns // 1000) if time_ns else None
    except (ValueError, OverflowError):  # a time that no calendar has
        return None


@dataclass(frozen=True)
class Look:
    """What one look at a file said: its size, its fingerprint, or why there is none."""

    size_bytes: int
    fingerprint: str
    problem: str | None = None

    @classmethod
    def of(cls, size_bytes: int, mtime_ns: int) -> "Look":
        return cls(size_bytes, f"{size_bytes}-{mtime_ns}")

    @classmethod
    def at(cls, status: stat_result) -> "Look":
        """What `os.stat` told, of a pipe or device that it is no file."""
        if stat.S_ISREG(status.st_mode):
            return cls.of(status.st_size, status.st_mtime_ns)
        return cls.missing("a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device, not a file")

    @classmethod
    def missing(cls, problem: str = "no such file") -> "Look":
        return cls(0, MISSING, problem)

    @classmethod
    def unreachable(cls, problem: str) -> "Look":
        return cls(0, UNREACHABLE, problem)

    @classmethod
    def failed(cls, error: OSError) -> "Look":
        """What an error of the operating system says of a local file."""
        if error.errno in _ABSENT:
            return cls.missing("no such file" if error.errno == errno.ENOENT else error.strerror or str(error))
        return cls.unreachable(error.strerror or str(error))

    @property
    def is_missing(self) -> bool:
        return self.fingerprint == MISSING

    @property
    def is_known(self) -> bool:
        """Whether it is known to be there, or not to be."""
        return self.fingerprint != UNREACHABLE

    def video(self, video_id: str, uri: str) -> VideoFile:
        return VideoFile(video_id, uri, self.size_bytes, self.fingerprint, self.problem)


def id_of(path: str) -> str:
    r"""The id that a relative path gives a video: the path without its suffix, bytes that are not UTF-8 as `\xNN`."""
    dot = path.rfind(".", path.rfind("/") + 2)  # a dot that begins a name begins no suffix
    return shown(path[:dot] if 0 < dot < len(path) - 1 else path)
