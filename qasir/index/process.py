"""Names a process so that it can be told from any other, of any machine; and a clock that does not jump."""

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_STATE, _START = 0, 19
"""Fields of /proc/PID/stat after the name (proc_pid_stat(5): 3, state; 22, start time)."""
_DEAD = frozenset("ZX")


@dataclass(frozen=True)
class Process:
    """A process, by what nothing else shares: the boot of its machine, the namespace of its number, the number, and
    when it started, in clock ticks after the boot. What the system does not tell (outside Linux) is empty.

    `host` is for people: machines and containers may share a name.
    """

    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: str = ""
    started: int = 0

    @classmethod
    def this(cls) -> "Process":
        return cls(socket.gethostname(), os.getpid(), _boot_id(), _pid_namespace(), _stat(os.getpid())[1])

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Process":
        return cls(**json.loads(text))

    def is_alive(self) -> bool | None:
        """Whether it still runs; None when that cannot be seen from here: another machine, boot or container."""
        if not (self.boot_id and self.pid_namespace and self.started):
            return None
        if (self.boot_id, self.pid_namespace) != (_boot_id(), _pid_namespace()):
            return None
        state, started = _stat(self.pid)
        return started == self.started and state not in _DEAD

    def age_s(self) -> float:
        """Seconds since it started; 0 where the system does not tell."""
        return max(0.0, clock_s() - self.started / os.sysconf("SC_CLK_TCK")) if self.started else 0.0


def clock_s() -> float:
    """Seconds of a clock that goes on while the machine sleeps, is the same for all its processes, and is never set."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _pid_namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _stat(pid: int) -> tuple[str, int]:
    """(state, start time) of a process; ("", 0) when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[_STATE], int(fields[_START])
