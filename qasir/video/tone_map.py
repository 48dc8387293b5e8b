"""Maps high dynamic range to the standard one, which models are trained on.

Coded light becomes linear by its transfer function (SMPTE ST 2084, "PQ"; ARIB STD-B67, "HLG"; both in ITU-R BT.2100-2,
tables 4 and 5), the primaries become those of BT.709, Hable's curve brings highlights into range, and the inverse of
BT.1886 codes what comes out: in this order, and with these constants, what FFmpeg's `zscale` and `tonemap=hable` do. It
is meant for pictures that were scaled to their size already.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg"]
"""How light of a high dynamic range is coded."""
_TRANSFERS: dict[int, Transfer] = {ColorTrc.SMPTE2084: "pq", ColorTrc.ARIB_STD_B67: "hlg"}

DEFAULT_PEAK_NITS = 1000.0
"""The brightest light of a video that does not state it: that of the displays most are graded on."""
_WHITE_NITS = 100.0
"""Light that is 1 before Hable's curve: the white of BT.709 on the display of BT.1886."""
_PQ_NITS, _HLG_NITS = 10_000.0, 1000.0
"""Light of the highest code. HLG codes light relative to the display's, and is mapped as on one of 1,000 nits."""
_DISPLAY_GAMMA = 2.4
"""BT.1886."""
_N_CODES = 1 << 16
_DARKEST = np.float32(1e-6)
"""Light by which, at least, a scale is divided."""
_BLACK = np.float32(1e-8)
"""Code 0 too, as 0 is, of which powers take five times as long."""
_BLOCK = 8192
"""Pixels mapped at once: what is computed on the way stays in a core's cache."""
_Light = TypeVar("_Light", float, NDArray[np.floating[Any]])

_D65 = (0.3127, 0.3290)
_CHROMATICITIES: dict[int, tuple[tuple[float, float], ...]] = {
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""ITU-T H.273's number of the primaries -> x and y of red, green and blue; the white is D65 in all of them."""


def transfer_of(frame: VideoFrame) -> Transfer | None:
    """None for a frame of the standard dynamic range, or one that does not say."""
    return _TRANSFERS.get(int(frame.color_trc))


def is_high_range(transfer: int) -> bool:
    """Whether ITU-T H.273's number of a transfer function is one of a high dynamic range."""
    return transfer in _TRANSFERS


def side_data(frame: VideoFrame) -> dict[Type, bytes]:
    """What travels with a frame, as FFmpeg's structures."""
    beside: Any = frame.side_data  # whose annotation has it iterate over names
    return {data.type: bytes(data) for data in beside}


def stated_peak(frame: VideoFrame) -> float | None:
    """Nits of the brightest light, by what travels with the frame: of the content (MaxCLL, CTA-861.3), or else of the
    display it was graded on (SMPTE ST 2086); None where neither is stated."""
    found = side_data(frame)
    nits = _content_nits(found.get(Type.CONTENT_LIGHT_LEVEL, b""))
    nits = nits or _display_nits(found.get(Type.MASTERING_DISPLAY_METADATA, b""))
    return min(max(nits, _WHITE_NITS), _PQ_NITS) if nits else None


def _content_nits(data: bytes) -> float:
    """MaxCLL of FFmpeg's AVContentLightMetadata; 0 where it is unknown."""
    return float(struct.unpack_from("=I", data)[0]) if len(data) >= struct.calcsize("=I") else 0.0


def _display_nits(data: bytes) -> float:
    """The most light of FFmpeg's AVMasteringDisplayMetadata: eight fractions of primaries and white, those of the least
    and the most light, and whether each half is known; 0 where it is not."""
    if len(data) < struct.calcsize("=22i"):
        return 0.0
    *_, numerator, denominator, _, is_known = struct.unpack_from("=22i", data)
    return numerator / denominator if is_known and denominator > 0 and numerator > 0 else 0.0


def standard_range(
    planes: Sequence[NDArray[np.uint16]], transfer: Transfer, *, primaries: int = ColorPrimaries.BT2020,
    peak_nits: float = DEFAULT_PEAK_NITS,
) -> NDArray[np.uint8]:  # fmt: skip
    """Coded red, green and blue, each (H, W) of 0 .. 65535, as (H, W, 3) of BT.709 for a display of BT.1886.

    primaries: ITU-T H.273's number; others than BT.709's and P3's are taken for BT.2020's. peak_nits: the brightest
    light there is; what is brighter is white.
    """
    if transfer == "hlg":
        peak_nits = min(peak_nits, _HLG_NITS)
    primaries = primaries if primaries in _CHROMATICITIES else ColorPrimaries.BT2020
    height, width = planes[0].shape
    mapped = np.empty((height, width, 3), np.uint8)
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, top + step)
        light = np.stack([_linear(transfer).take(plane[rows], mode="clip") for plane in planes])
        shown = _mapped(light.reshape(3, -1), transfer, primaries, peak_nits)
        mapped[rows] = shown.T.reshape(-1, width, 3)
    return mapped


def _mapped(light: NDArray[np.float32], transfer: Transfer, primaries: int, peak_nits: float) -> NDArray[np.float32]:
    """(3, n) linear light as (3, n) codes of 0.5 .. 255.5, which are 0 .. 255 cut short."""
    if transfer == "hlg":
        light *= _hlg_system_gain(light, _luminance_weights(primaries))
    light = _to_bt709(primaries) @ light
    brightest = np.maximum(light.max(axis=0), _DARKEST)
    light *= hable(brightest) / (np.float32(hable(peak_nits / _WHITE_NITS)) * brightest)
    np.clip(light, _BLACK, 1.0, out=light)
    np.power(light, np.float32(1.0 / _DISPLAY_GAMMA), out=light)
    light *= 255.0
    light += 0.5
    return light


def pq_nits(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EOTF of SMPTE ST 2084: code 0 .. 1 -> nits."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = code ** (1 / m2)
    nits: NDArray[np.float64] = _PQ_NITS * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    return nits


def hlg_scene(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse OETF of ARIB STD-B67: code 0 .. 1 -> light of the scene, 0 .. 1."""
    a = 0.17883277
    b = 1 - 4 * a
    c = 0.5 - a * np.log(4 * a)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def hable(light: _Light) -> _Light:
    """John Hable's filmic curve ("Uncharted 2", 2010), without its white scale."""
    a, b, c, d, e, f = 0.15, 0.50, 0.10, 0.20, 0.02, 0.30
    return (light * (light * a + c * b) + d * e) / (light * (light * a + b) + d * f) - e / f


def _hlg_system_gain(scene: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The OOTF of BT.2100: what the light of a scene (3, n) is multiplied by for that of a display of 1,000 nits, whose
    system gamma is 1.2."""
    return np.float32(_HLG_NITS / _WHITE_NITS) * (weights @ scene) ** np.float32(1.2 - 1)


@cache
def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """(65536,) light of each code: of the display, over `_WHITE_NITS`; HLG's of the scene."""
    code = np.arange(_N_CODES) / (_N_CODES - 1)
    light = pq_nits(code) / _WHITE_NITS if transfer == "pq" else hlg_scene(code)
    return light.astype(np.float32)


@cache
def _to_bt709(primaries: int) -> NDArray[np.float32]:
    """(3, 3), for linear light: ITU-R BT.2087's for BT.2020."""
    to_xyz, bt709 = _to_xyz(primaries), _to_xyz(ColorPrimaries.BT709)
    return np.linalg.solve(bt709, to_xyz).astype(np.float32)


@cache
def _luminance_weights(primaries: int) -> NDArray[np.float32]:
    """(3,) shares of red, green and blue in luminance."""
    return _to_xyz(primaries)[1].astype(np.float32)


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """(3, 3) from linear light to CIE XYZ, where white has Y = 1 (SMPTE RP 177)."""
    columns = np.array([_xyz(*point) for point in _CHROMATICITIES[primaries]]).T
    return columns * np.linalg.solve(columns, _xyz(*_D65))


def _xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])
