"""Tiny real videos for the tests: flat grey frames whose brightness tells which frame they are."""

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame


def ordinary_priority():
    """Take back the real-time priority that SVT-AV1 gives to the thread that opens an encoder."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def brightness(index: int) -> int:
    """The grey level of frame `index`; neighbours are far apart, and it repeats after 20 frames."""
    return 20 + (index * 77 % 20) * 11


def write_video(
    path: Path,
    n_frames: int = 30,
    *,
    rate: int = 10,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    rotation: float | None = None,
    color_range: int | None = None,
    picture: np.ndarray | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    tags: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Frame i is flat `brightness(i)`, or pictures[i] (H, W, 3), or `picture`; `pts` are in ticks of `time_base`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        container.metadata.update(tags or {})
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if time_base is not None:
            stream.time_base = stream.codec_context.time_base = time_base
        if color_range is not None:
            stream.codec_context.color_range = color_range
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(n_frames):
            pixels = np.full((size[1], size[0], 3), brightness(i), np.uint8) if picture is None else picture
            pixels = pixels if pictures is None else pictures[i].astype(np.uint8)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_color_range=color_range)
            if pts is not None:
                frame.pts, frame.time_base = pts[i], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    """A container with an audio stream only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_film(path: Path, n_frames: int = 30) -> Path:
    """A container with sound and two video streams: the first shows `brightness(i)`, the second is black."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        pictures, black = (container.add_stream("libx264", rate=10) for _ in range(2))
        for stream in (pictures, black):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(n_frames):
            for stream, level in ((pictures, brightness(i)), (black, 0)):
                pixels = np.full((48, 64, 3), level, np.uint8)
                container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410 * n_frames), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        for last in (sound, pictures, black):
            container.mux(last.encode(None))
    return path


def write_sounding(
    path: Path,
    n_frames: int = 20,
    *,
    picture_s: float = 0.0,
    sound_s: float | None = 0.0,
    codec: str = "libx264",
    sound: str = "aac",
    keyframe_every: int = 10,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Ten frames a second, frame i flat `brightness(i)`, the first at picture_s, and a tone as long that begins at
    sound_s; none if it is None."""
    ticks = 90_000
    packets: list[Packet] = []
    with av.open(str(path), "w", options=container_options or {}) as container:
        options = {"g": str(keyframe_every), "x264-params": "scenecut=0"}
        pictures: Any = container.add_stream(codec, rate=10, options=options)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.time_base = pictures.codec_context.time_base = Fraction(1, ticks)
        for i in range(n_frames):
            frame = VideoFrame.from_ndarray(np.full((48, 64, 3), brightness(i), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((picture_s + i / 10) * ticks), Fraction(1, ticks)
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        if sound_s is not None:
            packets += _tone(container.add_stream(sound, rate=48_000), sound_s, n_frames / 10)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _tone(stream: Any, start_s: float, length_s: float) -> list[Packet]:
    rate, step = stream.rate, stream.codec_context.frame_size or 1024
    stream.layout = "mono"
    samples = 0.05 * np.sin(np.arange(int(length_s * rate)) * 2 * np.pi * 440 / rate)
    if stream.codec_context.format.name == "s16":
        samples = (samples * 32767).astype(np.int16)
    packets: list[Packet] = []
    for first in range(0, len(samples) - step + 1, step):
        part = samples[None, first : first + step]
        part = part if part.dtype == np.int16 else part.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part, format=stream.codec_context.format.name, layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start_s * rate) + first
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def trim(source: Path, path: Path, at: Fraction) -> Path:
    """Cut the first seconds off as editors do: the edit list hides them, and what the visible frames refer to stays."""
    with av.open(str(source)) as whole, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as part:
        streams = {stream.index: part.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None:
                ticks = round(at / packet.time_base)
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = streams[packet.stream.index]
                part.mux(packet)
    return path


def write_blank(path: Path, size: tuple[int, int], codec: str, pix_fmt: str = "yuv420p", **options: str) -> Path:
    """One frame, all zeros: as large as one likes, in a small file."""
    frame = VideoFrame(*size, pix_fmt)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


CODECS = {
    "h264.mp4": "libx264",
    "hevc.mp4": "libx265",
    "av1.mkv": "libsvtav1",
    "vp9.webm": "libvpx-vp9",
    "mpeg4.avi": "mpeg4",
    "mpeg2.ts": "mpeg2video",
}
"""A file for each codec that people have: its name and the encoder that writes it."""


def write_every_codec(folder: Path, n_frames: int = 30) -> list[Path]:
    """A video of each of CODECS, with a keyframe every twelve frames."""
    options = {"g": "12", "x265-params": "log-level=none"}
    return [write_video(folder / name, n_frames, codec=codec, options=options) for name, codec in CODECS.items()]


def break_frame(path: Path, number: int) -> Path:
    """Damage an H.264 file in its middle: the frame stored at `number` claims to hold more bytes than there are."""
    return _overwrite(path, number, 0, b"\xff" * 4)


def hide_keyframe(path: Path, number: int) -> Path:
    """Have a VP9 keyframe, stored at `number`, say that it is not to be shown: nothing is decoded, without an error."""
    with av.open(str(path)) as container:
        first = bytes(_packets(container)[number])[0]
    return _overwrite(path, number, 0, bytes([first & ~0x02]))


def write_edits(source: Path, path: Path, edits: Sequence[tuple[float, float]]) -> Path:
    """Have an MP4 show other stretches of its only track, each from .. to seconds, by an edit list in place of its
    own."""
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") - 4
    n_old, first = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 20 : at + 24], "big")
    header = data.index(b"mdhd") + 4
    scale = int.from_bytes(data[header + 12 : header + 16], "big")
    entries = b"".join(
        struct.pack(">IiI", round((until - since) * 1000), round(since * scale) + first, 1 << 16)
        for since, until in edits
    )
    new = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    data[at : at + n_old] = new
    for box in (b"edts", b"trak", b"moov"):
        start = data.rindex(box, 0, at) - 4
        size = int.from_bytes(data[start : start + 4], "big") + len(new) - n_old
        data[start : start + 4] = size.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def mark_all_keyframes(path: Path) -> Path:
    """Leave out of an MP4 which frames are keyframes, so that it says all are."""
    return _replace(path, b"stss", b"free")


def mark_one_keyframe(path: Path) -> Path:
    """Have an MP4 say that only its first frame is a keyframe."""
    data = path.read_bytes()
    at = data.index(b"stss") + 8
    return _replace(path, data[at : at + 4], (1).to_bytes(4, "big"), start=at)


def _replace(path: Path, old: bytes, new: bytes, *, start: int = 0) -> Path:
    data = path.read_bytes()
    at = data.index(old, start)
    path.write_bytes(data[:at] + new + data[at + len(old) :])
    return path


def _overwrite(path: Path, number: int, at: int, new: bytes) -> Path:
    with av.open(str(path)) as container:
        packet = bytes(_packets(container)[number])
    data = bytearray(path.read_bytes())
    start = data.index(packet) + at
    data[start : start + len(new)] = new
    path.write_bytes(data)
    return path


def _packets(container: InputContainer) -> list[Packet]:
    return [packet for packet in container.demux(container.streams.video[0]) if packet.size]


def read(video, clocks, **options):
    """(the samples of an open video, how the reading ended)."""
    samples, taken = video.samples(clocks, **options), []
    while True:
        try:
            taken.append(next(samples))
        except StopIteration as stop:
            return taken, stop.value
