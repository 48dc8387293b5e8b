"""Kills a job at a known moment."""

import os
import signal
import subprocess
import sys
import time


def kill_once_there(module, args, path):
    """Run a job as a program of its own and SIGKILL its process group as soon as `path` is there."""
    command = [sys.executable, "-m", module, *map(str, args)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
