"""Runs in which one write fails: python -m tests.qasir.encoding.faults JOB FAULT EACH VIDEOS [START]

Run n works on `<JOB>-<FAULT>-<n>` in the working directory, a copy of the index START if one is named, and meets the
fault at its n-th write or commit, for n = 1, 1 + EACH, ...; printed is a JSON list of [n, the write, how the run
ended]. Each is a process of its own, forked before Lance has done anything, which saves the imports.

JOB: encode or reindex. FAULT: killed (os._exit right after the write), exception or full-disk (raised in place of it),
lost-lease (another run takes the index right before it, and ends).
"""

import json
import logging
import os
import shutil
import sys
import warnings
from importlib import import_module
from pathlib import Path

import lance
import lance.fragment
from lance.dataset import DatasetOptimizer, MergeInsertBuilder, Tags

WRITES = [
    (lance, "write_dataset"),
    (lance.fragment, "write_fragments"),
    (lance.LanceDataset, "commit"),
    (lance.LanceDataset, "update"),
    (lance.LanceDataset, "delete"),
    (lance.LanceDataset, "add_columns"),
    (lance.LanceDataset, "update_schema_metadata"),
    (lance.LanceDataset, "update_field_metadata"),
    (lance.LanceDataset, "create_scalar_index"),
    (lance.LanceDataset, "cleanup_old_versions"),
    (MergeInsertBuilder, "execute"),
    (MergeInsertBuilder, "execute_uncommitted"),
    (DatasetOptimizer, "compact_files"),
    (DatasetOptimizer, "optimize_indices"),
    (Tags, "create"),
    (Tags, "delete"),
]
FULL = "LanceError(IO): Generic LocalFileSystem error: Unable to write: No space left on device (os error 28)"
DIED, HELD, FAILED = 9, 3, 4
ENDS = {0: "ended well", DIED: "killed", HELD: "lost the index", FAILED: "failed"}
job, fault, each, videos, *start = sys.argv[1:]
uri = ""
left, is_inside, met = 0, False, ""


def faulty(name, write):
    def wrapped(*args, **options):
        global left, is_inside, met
        if is_inside:  # what the fault itself writes, or a write within another
            return write(*args, **options)
        left -= 1
        if left != 0:
            is_inside = True
            try:
                return write(*args, **options)
            finally:
                is_inside = False
        met = name
        Path("met").write_text(name)
        if fault == "exception":
            raise RuntimeError("a fault")
        if fault == "full-disk":
            raise OSError(FULL)
        is_inside = True
        if fault == "lost-lease":
            take_over()
        try:
            result = write(*args, **options)
        finally:
            is_inside = False
        if fault == "killed":
            os._exit(DIED)
        return result

    return wrapped


def take_over():
    """Another run holds the index for a moment."""
    runs = Runs(f"{uri}/runs.lance", {})
    if not Path(runs.uri).exists():
        return
    rows = runs.all([])
    if rows:
        (newest,) = [row for row in lance.dataset(runs.uri).to_table().to_pylist() if row["epoch"] == rows[-1]["epoch"]]
        assert runs.insert({**newest, "run_id": "other", "epoch": newest["epoch"] + 1, "ended": newest["started"]})


for owner, name in WRITES:
    setattr(owner, name, faulty(name, getattr(owner, name)))
stubs = import_module("tests.qasir.encoding.stubs")  # only now, since it imports some of them by name
Runs = import_module("qasir.index.runs").Runs
IndexHeldError = import_module("qasir.errors").IndexHeldError
assert "torch" not in sys.modules


def run(n):
    """In a process of its own: how it ended, and the write that failed, or None when there was no n-th one."""
    global left, uri
    left, uri = n, f"{job}-{fault}-{n}"
    Path("met").unlink(missing_ok=True)
    if start:
        shutil.copytree(start[0], uri)
    pid = os.fork()
    if pid == 0:
        status = FAILED
        logging.disable(logging.CRITICAL)
        try:
            if job == "encode":
                stubs.encode_stubbed(videos, uri, batch=1, commit_every_s=0.0)
            else:
                stubs.reindex_stubbed(videos, uri, batch=1, commit_every_s=0.0)
            status = 0
        except IndexHeldError:
            status = HELD
        except Exception:
            if os.environ.get("SHOW"):
                import traceback

                traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return (Path("met").read_text() if Path("met").exists() else None), ENDS[status]


warnings.filterwarnings("ignore", message="lance is not fork-safe")
found, n = [], 1
while True:
    write, ended = run(n)
    if write is None:
        assert ended == "ended well", (n, ended)
        break
    found.append([n, write, ended])
    n += int(each)
print(json.dumps(found))
