"""Decodes on a GPU (NVDEC), by FFmpeg's own decoders: which videos, on which GPU, and how many at a time.

These decoders read a stream as they do on a CPU and leave only the pictures to the GPU: packets, timestamps, delay and
frames that are skipped are the same, and `qasir.video.lookahead` checks every frame that comes out. The pictures stay
on the GPU until one is sampled. A video that a GPU cannot decode, or breaks off, is decoded on the CPU; `FALLBACKS` are
the reasons.

A GPU serves so many processes of a machine at a time as its memory has room for (`places_in`), each with a context of
its own. A process that has got its place keeps it as long as it lives: what it holds is a lock on a file, which goes
with it, however it ends.
"""

import ctypes
import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from av.codec import Codec
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from qasir.errors import SpecError

log = logging.getLogger(__name__)

Decoder = Literal["auto", "cpu", "cuda"]
DECODERS = get_args(Decoder)
CPU: Final = "cpu"
CUDA: Final = "cuda"

SMALL, CODEC, NO_GPU, NO_PLACE, REFUSED, BROKEN_OFF = "small", "codec", "no_gpu", "no_place", "refused", "broken_off"
FALLBACKS = {
    SMALL: "its frames are so small that a CPU is faster",
    CODEC: "it is of a codec that is not decoded on a GPU here",
    NO_GPU: "the machine that decodes it has no GPU that decodes",
    NO_PLACE: "as many processes as may decode on the machine's GPUs already do",
    REFUSED: "the GPU gave not one frame of it",
    BROKEN_OFF: "the GPU stopped, or gave another frame than was due, in the middle of it",
}
"""Why a video is decoded on the CPU where a GPU was asked for."""

LEAST_PIXELS = 1280 * 720
"""Of frames that `auto` decodes on a GPU: between 640 x 360, of which 16 cores decoded more than a GPU, and
1920 x 1080, of which a GPU decoded 2.6 to 7.5 times as much."""
MOST_PLACES = 16
"""Processes that decode on one GPU at a time: 16 gave up to 1.6 times what 8 did."""
PLACES_ELSEWHERE = 8
"""What a GPU is taken to have that cannot be asked: those of one with 16 GiB."""

_MEMORY_A_PLACE = 2 << 30
"""Bytes of a GPU's memory for each process that decodes there. It took 0.5 GiB, and its pictures of 3840 x 2160 pixels
0.2 GiB; the largest that are decoded take about 1 GiB. The rest is the encoder's."""
_CODECS = ("h264", "hevc", "vp9")
"""FFmpeg's decoders that leave pictures to a GPU. PyAV opens AV1 with a library (libdav1d) that does not."""
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
        """What decodes a stream of a container that was opened with `accel`, in the place of its own decoder."""
        return OnGpu(context)


def check_worth(decoder: str, codec: str, width: int, height: int) -> None:
    """Whether a video may be decoded on a GPU. codec: FFmpeg's decoder on a CPU. Raises Fallback."""
    if codec not in _CODECS:
        raise Fallback(CODEC, codec)
    if decoder == "auto" and width * height < LEAST_PIXELS:
        raise Fallback(SMALL, f"{width}x{height}")


def on_cpu(frame: VideoFrame) -> VideoFrame:
    """A frame in this machine's memory: NV12 or P010 where it comes from a GPU, else as it is."""
    return frame if frame.sw_format is None else frame.reformat(format=frame.sw_format.name)


def places_in(memory: int) -> int:
    """How many processes decode at a time on a GPU with so many bytes of memory."""
    return max(1, min(MOST_PLACES, memory // _MEMORY_A_PLACE))


def gpu_places() -> dict[str, int]:
    """The places of each GPU that CUDA sees, by its identity and in CUDA's order; nothing without a driver, or one that
    decodes no video."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError as error:
        log.info("no GPU decodes here: %s", error)
        return {}
    return places_by(cuda)


def check_gpus_here(decoder: str) -> None:
    """Raises SpecError when a GPU must decode and this machine has none."""
    if decoder == CUDA and not gpu_places():
        raise no_gpu_in("this machine")


def places_by(cuda: Any) -> dict[str, int]:
    """As `gpu_places`. cuda: the driver's library."""
    n_gpus = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(n_gpus)):
        return {}
    found: dict[str, int] = {}
    for device in range(n_gpus.value):
        handle, memory, uuid = ctypes.c_int(), ctypes.c_size_t(), (ctypes.c_ubyte * _UUID_BYTES)()
        unknown = cuda.cuDeviceGet(ctypes.byref(handle), device)
        name = str(device) if unknown or cuda.cuDeviceGetUuid(uuid, handle) else bytes(uuid).hex()
        untold = unknown or cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
        found[name] = PLACES_ELSEWHERE if untold else places_in(memory.value)
    return found


def places_a_gpu() -> int:
    """The fewest that a GPU of this machine has, for want of those of the others of a cluster; `PLACES_ELSEWHERE` where
    it has none."""
    return min(gpu_places().values(), default=PLACES_ELSEWHERE)


@dataclass
class Gpus:
    """The GPUs of this machine, of which this process may get one.

    folder: where the machine's processes lock their places. find: the places of the GPUs that CUDA sees, in its order,
    as they are named everywhere on this machine; nothing where none decodes. start: makes one ready.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / f"qasir-gpus-{os.getuid()}")
    find: Callable[[], Mapping[str, int]] = gpu_places
    start: Callable[[int], Gpu] = Gpu
    _found: Mapping[str, int] | None = None
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
                self._found = self.find()
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

    def _take_place(self, places: Mapping[str, int]) -> int:
        """The number of a GPU, one with the fewest places taken. Raises Fallback, OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in range(max(places.values())):
            for device, (name, n_places) in enumerate(places.items()):
                if place >= n_places:
                    continue
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
