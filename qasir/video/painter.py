"""Draws video frames into the cells of a super image."""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from qasir.video.super_image import Cell, Fit, fit_inside
from qasir.video.tone_map import DEFAULT_PEAK_NITS, Transfer, standard_range, transfer_of

_FIRST_HD_HEIGHT = 720
_MATRIX = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
"""ITU-T H.273 matrix coefficients -> swscale's name; anything else goes by the number of lines."""


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise, for the frame to stand upright."""
    return round(frame.rotation / 90) % 4


def matrix_of(frame: VideoFrame) -> Colorspace:
    """How the frame's colours were coded."""
    return _MATRIX.get(
        int(frame.colorspace), Colorspace.ITU709 if frame.height >= _FIRST_HD_HEIGHT else Colorspace.ITU601
    )


class FramePainter:
    """Draws frames into cells: swscale scales each straight to its size there, in one conversion.

    pixel_aspect: width over height of one coded pixel (1 for square ones). tone_map: whether frames of a high dynamic
    range are mapped to the standard one, from light of at most peak_nits; else their codes are taken as those are.
    """

    def __init__(
        self, fit: Fit, pixel_aspect: float = 1.0, *, tone_map: bool = False, peak_nits: float = DEFAULT_PEAK_NITS
    ) -> None:
        self.fit = fit
        self.pixel_aspect = pixel_aspect
        self._tone_map = tone_map
        self.peak_nits = peak_nits
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def draw(self, frame: VideoFrame, image: NDArray[np.uint8], cell: Cell) -> None:
        """Fill `cell` of image (S, S, 3) with the frame, upright; with letterbox, what it leaves free is untouched."""
        turns = quarter_turns(frame)
        sideways = turns % 2 == 1
        aspect = frame.width * self.pixel_aspect / frame.height
        box = fit_inside(cell, 1.0 / aspect if sideways else aspect, self.fit)
        width, height = (box.height, box.width) if sideways else (box.width, box.height)
        transfer = transfer_of(frame) if self._tone_map else None
        if transfer is None:
            pixels = self._scaled(frame, width, height)
        else:
            pixels = self._mapped(frame, transfer, width, height)
        image[box.top : box.bottom, box.left : box.right] = np.rot90(pixels, turns) if turns else pixels

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        plane = self._reformatted(frame, width, height, "rgb24").planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        return rows[:, : width * 3].reshape(height, width, 3)

    def _mapped(self, frame: VideoFrame, transfer: Transfer, width: int, height: int) -> NDArray[np.uint8]:
        """Scaled as coded, with all bits, and then mapped: few pixels, and next to the same as the other way round."""
        green, blue, red = (
            np.frombuffer(memoryview(plane), dtype=np.uint16).reshape(height, plane.line_size // 2)[:, :width]
            for plane in self._reformatted(frame, width, height, "gbrp16").planes
        )
        return standard_range(
            (red, green, blue), transfer, primaries=int(frame.color_primaries), peak_nits=self.peak_nits
        )

    def _reformatted(self, frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
        scaler = self._scalers.setdefault((width, height), VideoReformatter())
        matrix = matrix_of(frame)
        return scaler.reformat(
            frame, width, height, pixel_format, src_colorspace=matrix, dst_colorspace=matrix,
            dst_color_range=ColorRange.JPEG, interpolation=Interpolation.BICUBIC, threads=1,
        )  # fmt: skip
