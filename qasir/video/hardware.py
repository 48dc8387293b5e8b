"""Decodes on a GPU (NVDEC), by FFmpeg's own decoders: which videos, on which GPU, and how many at a time.

These decoders read a stream as they do on a CPU and leave only the pictures to the GPU: packets, timestamps, delay and
frames that are skipped are the same, and `qasir.video.lookahead` checks every frame that comes out. The pictures stay
on the GPU until one is sampled. A video that a GPU cannot decode, or breaks off, is decoded on the CPU; `FALLBACKS` are
the reasons.

A GPU serves so many processes of a machine at a time, each with a context of its own (some hundred megabytes). A
process that has got its place keeps it as long as it lives: what it holds is a lock on a file, which goes with it,
however it ends.
"""

import ctypes
import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from av.codec import Codec
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc

from qasir.errors import SpecError

log = logging.getLogger(__name__)

Decoder = Literal["auto", "cpu", "cuda"]
DECODERS = get_args(Decoder)
CPU: Final = "cpu"
CUDA: Final = "cuda"

SMALL, CODEC, NO_GPU, NO_PLACE, REFUSED, BROKEN_OFF = "small", "codec", "no_gpu", "no_place", "refused", "broken_off"
FALLBACKS = {
    SMALL: "its frames are so small that a CPU is faster",
    CODEC: "it is of a codec, or a kind of it, that is not decoded on a GPU here",
    NO_GPU: "the machine that decodes it has no GPU that decodes",
    NO_PLACE: "as many processes as may decode on the machine's GPUs already do",
    REFUSED: "the GPU gave not one frame of it",
    BROKEN_OFF: "the GPU stopped, or gave another frame than was due, in the middle of it",
}
"""Why a video is decoded on the CPU where a GPU was asked for."""

LEAST_PIXELS = 1280 * 720
"""Of frames that `auto` decodes on a GPU."""
PLACES_A_GPU = 8
"""Processes that decode on one GPU at a time."""

_DECODERS = {"h264": "h264", "hevc": "hevc", "vp9": "vp9", "libdav1d": "av1"}
"""FFmpeg's decoder on a CPU -> that with a GPU. It prefers a library for AV1, which knows no GPU."""
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_UUID_BYTES = 16


def check_decoder(decoder: str) -> None:
    """Raises SpecError."""
    if decoder not in DECODERS:
        raise SpecError(f"unknown decoder {decoder!r}: choose {', '.join(DECODERS)}")


def no_gpu_in(where: str) -> SpecError:
    """What `cuda` says of a cluster or a machine where nothing could be decoded on a GPU."""
    return SpecError(f"--decoder cuda: {where} has no GPU: choose auto or cpu")


class Fallback(Exception):
    """A video is decoded on the CPU, for a reason of `FALLBACKS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or FALLBACKS[reason])
        self.reason = reason


class OnGpu:
    """The decoder of one stream whose frames stay on a GPU.

    Anything but a frame there, of the size that the header states, raises Fallback: a GPU crops frames at the right and
    the bottom only, and decodes no others after a change of size.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._context: Any = context
        self._size = context.width, context.height

    @property
    def skip_frame(self) -> Any:
        return self._context.skip_frame

    @skip_frame.setter
    def skip_frame(self, which: Any) -> None:
        self._context.skip_frame = which

    def flush_buffers(self) -> None:
        self._context.flush_buffers()

    def decode(self, packet: Packet | None) -> list[VideoFrame]:
        frames: list[VideoFrame] = self._context.decode(packet)
        for frame in frames:
            if frame.sw_format is None:
                raise Fallback(REFUSED, "a frame was decoded on the CPU")
            if (frame.width, frame.height) != self._size:
                raise Fallback(BROKEN_OFF, f"a frame of {frame.width}x{frame.height} px")
        return frames


class Gpu:
    """A GPU that this process has a place on. device: its number among those that CUDA sees. Raises FFmpegError where
    it cannot be used."""

    def __init__(self, device: int) -> None:
        self._accel = HWAccel(
            "cuda", device=str(device), allow_software_fallback=False, options={"primary_ctx": "1"}, is_hw_owned=True
        )
        # As long as this is there, so is the context that all decoders of this process share: making it takes long.
        self._kept = self._accel.create(Codec("h264", "r"))

    @property
    def accel(self) -> HWAccel | None:
        """For the container of the video to open."""
        return self._accel

    def decoder(self, context: VideoCodecContext) -> OnGpu:
        """What decodes a stream of a container that was opened with `accel`, in the place of its own decoder. Raises
        Fallback."""
        name = _DECODERS.get(context.name)
        if name is None:
            raise Fallback(CODEC, context.name)
        if name == context.name:
            return OnGpu(context)
        other: Any = CodecContext.create(Codec(name, "r"), "r", self._accel)
        other.extradata, other.options, other.thread_count = context.extradata, context.options, context.thread_count
        other.width, other.height = context.width, context.height
        return OnGpu(other)


def check_worth(decoder: str, codec: str, width: int, height: int) -> None:
    """Whether a video may be decoded on a GPU. codec: FFmpeg's decoder on a CPU. Raises Fallback."""
    if codec not in _DECODERS:
        raise Fallback(CODEC, codec)
    if decoder == "auto" and width * height < LEAST_PIXELS:
        raise Fallback(SMALL, f"{width}x{height}")


def check_first_frame(codec: str, frame: VideoFrame) -> None:
    """Whether another decoder than the container's own would lose what only the container says: how a frame is turned,
    and the brightness of HDR. frame: as the container's own gives it. Raises Fallback."""
    if _DECODERS.get(codec) != codec and (frame.rotation or frame.color_trc in _HDR):
        raise Fallback(CODEC, f"{codec}, turned or HDR")


def on_cpu(frame: VideoFrame) -> VideoFrame:
    """A frame in this machine's memory: NV12 or P010 where it comes from a GPU, else as it is."""
    return frame if frame.sw_format is None else frame.reformat(format=frame.sw_format.name)


def gpu_names() -> list[str]:
    """The GPUs that CUDA sees, by their identity; nothing without a driver, or one that decodes no video."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError as error:
        log.info("no GPU decodes here: %s", error)
        return []
    n_gpus = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(n_gpus)):
        return []
    return [_identity(cuda, device) for device in range(n_gpus.value)]


def _identity(cuda: Any, device: int) -> str:
    handle, uuid = ctypes.c_int(), (ctypes.c_ubyte * _UUID_BYTES)()
    if cuda.cuDeviceGet(ctypes.byref(handle), device) or cuda.cuDeviceGetUuid(uuid, handle):
        return str(device)
    return bytes(uuid).hex()


@dataclass
class Gpus:
    """The GPUs of this machine, of which this process may get one.

    folder: where the machine's processes lock their places. names: the GPUs that CUDA sees, as they are named
    everywhere on this machine; nothing where none decodes. start: makes one ready.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / f"qasir-gpus-{os.getuid()}")
    places: int = PLACES_A_GPU
    names: Callable[[], Sequence[str]] = gpu_names
    start: Callable[[int], Gpu] = Gpu
    _found: Sequence[str] | None = None
    _gpu: Gpu | None = None
    _place: int | None = None
    _broken: str | None = None

    def get(self) -> Gpu:
        """The same one every time. Raises Fallback: NO_GPU for good, NO_PLACE as long as others hold them."""
        if self._gpu is not None:
            return self._gpu
        if self._broken is not None:
            raise Fallback(NO_GPU, self._broken)
        try:
            if self._found is None:
                self._found = self.names()
            if not self._found:
                raise Fallback(NO_GPU)
            self._gpu = self.start(self._take_place(self._found))
        except Exception as error:  # whatever a driver raises: videos can be read without it
            if isinstance(error, Fallback) and error.reason == NO_PLACE:
                raise
            self._broken = str(error)
            self._give_back()
            log.log(logging.INFO if isinstance(error, Fallback) else logging.WARNING, "no GPU decodes here: %s", error)
            raise Fallback(NO_GPU, self._broken) from None
        return self._gpu

    def _take_place(self, names: Sequence[str]) -> int:
        """The number of a GPU, one with the fewest places taken. Raises Fallback, OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in range(self.places):
            for device, name in enumerate(names):
                file = os.open(self.folder / f"{name}.{place}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                else:
                    self._place = file
                    return device
        raise Fallback(NO_PLACE)

    def _give_back(self) -> None:
        if self._place is not None:
            os.close(self._place)
            self._place = None


THIS_PROCESS = Gpus()
