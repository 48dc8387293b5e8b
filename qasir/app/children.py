"""Starts Python processes of this library that decode, without running the user's script again."""

import os
import subprocess
import sys
from contextlib import suppress

_ENDING_S = 5.0


def started(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Runs `main` of a module, its stdin and stdout being pipes and its stderr this process's own."""
    command = [sys.executable, "-c", f"from {module} import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def ended(child: "subprocess.Popen[bytes]") -> int:
    """Kills a process, whatever it is doing; its exit status, which is its own if it had ended before."""
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    return child.wait(_ENDING_S)
