"""Runs that end by os._exit, each right after another of its writes: python -m tests.qasir.encoding.dying VIDEOS [START]

Run n writes `killed<n>` in the working directory, a copy of the index START if one is named, and dies at its n-th write or commit; prints
how many died. Each is a process of its own, forked before Lance has done anything, which saves the imports.
"""

import os
import shutil
import sys
import warnings
from importlib import import_module

import lance
import lance.fragment
from lance.dataset import MergeInsertBuilder

WRITES = [
    (lance, "write_dataset"),
    (lance.fragment, "write_fragments"),
    (lance.LanceDataset, "commit"),
    (lance.LanceDataset, "insert"),
    (lance.LanceDataset, "update"),
    (lance.LanceDataset, "delete"),
    (MergeInsertBuilder, "execute"),
]
left = 0


def dying(write):
    def wrapped(*args, **options):
        global left
        result = write(*args, **options)
        left -= 1
        if left == 0:
            os._exit(9)
        return result

    return wrapped


for owner, name in WRITES:
    setattr(owner, name, dying(getattr(owner, name)))
stubs = import_module("tests.qasir.encoding.stubs")  # only now, since it imports some of them by name
assert "torch" not in sys.modules
videos, *start = sys.argv[1:]


def run(n):
    """In a process of its own; whether it died."""
    global left
    left = n
    if start:
        shutil.copytree(start[0], f"killed{n}")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            stubs.encode_stubbed(videos, f"killed{n}", batch=1, commit_every_s=0.0)
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9), status
    return status == 9


warnings.filterwarnings("ignore", message="lance is not fork-safe")
n_killed = 0
while run(n_killed + 1):
    n_killed += 1
print(n_killed)
