"""Maps many large pictures of a high dynamic range to the standard one: by a table of colours, three times as fast.

FFmpeg's `lut3d` interpolates between 33 x 33 x 33 colours that `qasir.video.tone_map` has mapped. That is 43 to 53 dB
from the mapping itself: for people to look at, not for a model.
"""

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from qasir.video.tone_map import Transfer, standard_range

SIDE = 33
FORMAT = "gbrp16le"
"""The pixels that are mapped: the one format for which the filter is fast."""


class ToneTable:
    """Maps frames of one size, coded red, green and blue of 16 bits and full range (`FORMAT`)."""

    def __init__(self, size: tuple[int, int], transfer: Transfer, primaries: int, peak_nits: float) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        named: Any = FORMAT  # which the annotation does not have
        self._source: Any = self._graph.add_buffer(
            width=size[0], height=size[1], format=named, time_base=Fraction(1, 1000)
        )
        self._sink: Any = self._graph.add("buffersink")
        with tempfile.TemporaryDirectory() as folder:  # which the filter reads at once
            path = Path(folder, "table.cube")
            path.write_bytes(_cube(transfer, primaries, peak_nits))
            table = self._graph.add("lut3d", file=str(path), interp="tetrahedral")
        self._source.link_to(table)
        table.link_to(self._sink)
        self._graph.configure()

    def mapped(self, frame: VideoFrame) -> VideoFrame:
        self._source.push(frame)
        mapped: VideoFrame = self._sink.pull()
        return mapped


def _cube(transfer: Transfer, primaries: int, peak_nits: float) -> bytes:
    """A table in the format of Adobe's .cube: red changes fastest."""
    steps = np.round(np.linspace(0, 65535, SIDE)).astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    planes = [plane.reshape(1, -1) for plane in (red, green, blue)]
    mapped = standard_range(planes, transfer, primaries=primaries, peak_nits=peak_nits)[0]
    shares = [f"{value / 255:.5f}" for value in range(256)]
    lines = [f"{shares[r]} {shares[g]} {shares[b]}" for r, g, b in mapped.tolist()]
    return "\n".join([f"LUT_3D_SIZE {SIDE}", *lines, ""]).encode()
