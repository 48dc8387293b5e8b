"""Starts Python processes of this library that decode, without running the user's script again."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

_ENDING_S = 5.0
_NEVER = frozenset({"QASIR_TOKEN"})
_PLAIN = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "VIRTUAL_ENV"}
)
_PLAIN_BEGINNINGS = ("LC_", "OMP_", "MALLOC_", "COVERAGE_", "PYTHON")
"""Names that say how a process runs, and hold no secrets."""


def started(module: str, *, of_stores: bool) -> "subprocess.Popen[bytes]":
    """Runs `main` of a module, its stdin and stdout being pipes and its stderr this process's own.

    of_stores: whether it reads from object stores, and so has what may be their credentials in its environment. A file
    that takes over what decodes it should find none otherwise; and the token of the server never.
    """
    command = [sys.executable, "-c", f"from {module} import main; main()"]
    environment = {**environment_of(os.environ, of_stores=of_stores), "PYTHONPATH": _import_path()}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def environment_of(own: Mapping[str, str], *, of_stores: bool) -> dict[str, str]:
    """What a process gets of this one's environment."""
    return {
        name: value
        for name, value in own.items()
        if name not in _NEVER and (of_stores or name in _PLAIN or name.startswith(_PLAIN_BEGINNINGS))
    }


def _import_path() -> str:
    return os.pathsep.join(filter(None, sys.path))


def ended(child: "subprocess.Popen[bytes]") -> int:
    """Kills a process, whatever it is doing; its exit status, which is its own if it had ended before."""
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    return child.wait(_ENDING_S)
