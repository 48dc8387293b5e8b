"""Tiny videos of a high dynamic range, and with Dolby Vision's metadata."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

PQ, HLG = ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67
STATED = "hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L({display}0000,50)"
"""x265's parameters for the metadata of HDR10; `display` in nits."""
SIZE = (96, 64)


def scene() -> np.ndarray:
    """(64, 96, 3) uint16 codes: hues from left to right, darker downwards, with a bright disc and some texture."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    hues = 0.5 + 0.3 * np.cos(2 * np.pi * (x[..., None] + np.array([0, 1 / 3, 2 / 3])))
    codes = (0.15 + 0.5 * hues) * (1 - 0.8 * y)[..., None]
    codes += 0.02 * np.random.default_rng(0).standard_normal((height // 4, width // 4, 1)).repeat(4, 0).repeat(4, 1)
    codes[np.hypot(x - 0.7, y - 0.3) < 0.15] = 0.72
    return (np.clip(codes, 0, 1) * 65535).astype(np.uint16)


def write_high_range(
    path: Path, n_frames: int = 10, *, transfer: int = PQ, codes: np.ndarray | None = None, stated: str = "",
    rotation: float | None = None, options: str = "", format: str | None = None,
) -> Path:  # fmt: skip
    """HEVC of 10 bits and BT.2020, ten frames a second, all of them `codes` (H, W, 3) or the scene."""
    codes = scene() if codes is None else codes
    height, width = codes.shape[:2]
    picture = VideoFrame.from_ndarray(codes, format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
    )
    picture.color_trc, picture.color_primaries, picture.colorspace = transfer, ColorPrimaries.BT2020, Colorspace.BT2020
    parameters = ":".join(one for one in ("log-level=none:crf=4", stated, options) if one)
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream("libx265", rate=10, options={"x265-params": parameters})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries = transfer, ColorPrimaries.BT2020
        codec.colorspace, codec.color_range = Colorspace.BT2020, ColorRange.MPEG
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(n_frames):
            picture.pts, picture.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_dolby_vision(path: Path, *, profile: int) -> Path:
    """A bare stream of HEVC whose frames carry the metadata (RPU) of profile 5, or of 8."""
    codec: Any = av.CodecContext.create("libx265", "w")
    codec.width, codec.height, codec.pix_fmt = *SIZE, "yuv420p10le"
    codec.time_base = Fraction(1, 25)
    codec.options = {"x265-params": "log-level=none:bframes=0"}
    grey = VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 100, np.uint8), format="rgb24")
    grey = grey.reformat(format="yuv420p10le")
    packets = []
    for i in range(5):
        grey.pts = i
        packets += codec.encode(grey)
    packets += codec.encode(None)
    unit = b"\0\0\0\1" + bytes([62 << 1, 1]) + _escaped(_rpu({5: 0, 8: 1}[profile]))
    path.write_bytes(b"".join(bytes(packet) + unit for packet in packets))
    return path


def _rpu(vdr_rpu_profile: int) -> bytes:
    """What FFmpeg's `dovi_rpudec.c` reads: no mapping, and the matrices of no colours in particular."""

    def fixed(n: int, value: int) -> str:
        return format(value, f"0{n}b")

    def golomb(value: int) -> str:
        bits = format(value + 1, "b")
        return "0" * (len(bits) - 1) + bits

    is_full_range = 1 - vdr_rpu_profile
    header = fixed(6, 2) + fixed(11, 18) + fixed(4, vdr_rpu_profile) + fixed(4, 0) + "1" + "0" + fixed(2, 0)
    header += golomb(23) + fixed(2, 1) + fixed(1, is_full_range) + golomb(2) + golomb(2) + golomb(4)
    header += "0000" + "0" + "1" + "1" + "0" + golomb(0) * 3
    pivots = (golomb(0) + fixed(10, 0) + fixed(10, 1023)) * 3 + golomb(0) * 2
    lines = (golomb(0) * 2 + "0" + golomb(0) + fixed(23, 0) + golomb(1) + fixed(23, 0)) * 3
    colours = golomb(0) * 2 + golomb(1) + fixed(16, 8192) * 9 + fixed(32, 0) * 3 + fixed(16, 5000) * 9
    colours += fixed(16, 65535) + fixed(64, 0) + fixed(5, 12) + fixed(2, 2) + fixed(2, 0) + fixed(2, 1)
    colours += fixed(12, 62) + fixed(12, 3079) + fixed(10, 42) + golomb(0)
    bits = header + pivots + lines + colours
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\x19" + body + struct.pack(">I", _crc(body)) + b"\x80"


def _crc(data: bytes) -> int:
    """CRC-32/MPEG-2."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def _escaped(data: bytes) -> bytes:
    """With the bytes that keep a NAL unit from holding a start code."""
    out, zeros = bytearray(), 0
    for byte in data:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)
