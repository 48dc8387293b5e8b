"""Kills a job at a known moment."""

import os
import signal
import subprocess
import sys
import time


def kill_once(module, args, is_time):
    """Run a job as a program of its own and SIGKILL its process group as soon as is_time() is true."""
    command = [sys.executable, "-m", module, *map(str, args)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 600
    while not is_time():
        assert process.poll() is None, "the job ended first"
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_once_there(module, args, path):
    """`kill_once` as soon as `path` is there."""
    kill_once(module, args, path.exists)
