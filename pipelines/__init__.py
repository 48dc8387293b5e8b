"""Graphs of Ray Data and Ray Train, made of the library's pieces."""

from importlib.util import find_spec

if find_spec("ray") is None:
    raise ModuleNotFoundError(
        'pipelines run on Ray, which is not installed: run `make install`, or pip install -e ".[jobs]"'
    )
