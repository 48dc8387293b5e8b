"""Runs something in a process that ends, as by a kill, just before one of its writes."""

import multiprocessing
import os

import lance

_STATUS = 9
_PRELOADED = [__name__, "qasir.training.finetune.fit", "qasir.training.mof.learn", "qasir.demo.train_packaged"]


def writes_survived(run, folders):
    """Run `run(folder)` for each folder in a process of its own, which ends before its 1st, 2nd, ... file replaced or
    table committed. Yields (folder, whether it ended early)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    for number, folder in enumerate(folders):
        process = context.Process(target=_run, args=(run, folder, number))
        process.start()
        process.join()
        assert process.exitcode in (0, _STATUS)
        yield folder, process.exitcode == _STATUS


def _run(run, folder, number):
    left = number

    def counted(write):
        def call(*args, **options):
            nonlocal left
            if not left:
                os._exit(_STATUS)
            left -= 1
            return write(*args, **options)

        return call

    os.replace = counted(os.replace)
    setattr(lance.LanceDataset, "commit", counted(lance.LanceDataset.commit))  # noqa: B010  (mypy knows it as a method)
    run(folder)
