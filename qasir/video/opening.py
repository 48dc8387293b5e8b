"""Opens videos by path or URI, as containers of video and nothing else, and knows what a container says of its own
completeness."""

import errno
import os
from typing import Any

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.packet import Packet
from av.video.stream import VideoStream

from qasir.errors import VideoError
from qasir.files.stores import Stores
from qasir.files.uris import is_remote, local_path
from qasir.video.limits import MAX_FRAME_PIXELS, check_size, out_of_memory

_RANGE_BYTES = 1 << 20
"""What one request to an object store reads."""
CONTAINERS = (
    "apng", "asf", "av1", "avi", "dhav", "dv", "flv", "gif", "gxf", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg",
    "mov", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "vc1", "vvc", "wtv", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's demuxers of one file that holds video, by name: containers, and the bare streams that cameras and encoders
write. What names other files or addresses is not among them (hls, dash, concat, image2, sdp, mlv, ...), and what a file
is, its content says, whatever its suffix."""
STEPS_BACK_S = (0, 2, 10, 60)
"""How long before a time a keyframe is sought in turn, until one is found that is not after it."""
DECODER_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS)}
"""For the codec context of every stream that is decoded."""
_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), **DECODER_OPTIONS}


def packets_until(container: Any, n_packets: int, last: Packet | None) -> int:
    """How many of the packets that a header states have come when so many were read, `last` the last one.

    In AVI, empty ones count too, which show the frame before again: they are not handed out, but decoding times, which
    number the packets there, count them.
    """
    if container.format.name != "avi" or last is None or last.dts is None:
        return n_packets
    return max(n_packets, last.dts + 1)


def stated_packets(uri: str, container: Any, stream: VideoStream) -> int:
    """How many packets the header of an open container promises of a stream; 0 where it does not say.

    By an edit list, MOV's demuxer hands out another number than the file holds: that of its index's entries. They count
    where the index without edits has as many as the header states; else its tables are damaged.
    """
    n_stated, n_indexed = stream.frames, len(stream.index_entries)
    if "mov" not in container.format.name or n_stated in (0, n_indexed):
        return n_stated
    try:
        with _opened(uri, codec_whitelist="none", advanced_editlist="0") as unedited:
            n_unedited = len(unedited.streams[stream.index].index_entries)
    except (av.error.FFmpegError, OSError):
        return n_stated
    return n_indexed if n_unedited == n_stated else n_stated


def open_container(uri: str, hwaccel: HWAccel | None = None) -> Any:
    """An open PyAV container, one of CONTAINERS. Remote files are read by ranges. Raises VideoError ("io",
    "not_a_video" or "too_large").

    hwaccel: what decodes its streams, where that is not the CPU.
    """
    try:
        container = _opened_with_limits(uri, hwaccel)
        if container is None or any(width == 0 for width, _ in _sizes(container)):
            # Either no limit held, and nothing was decoded yet, or one did, and frames were refused for their size.
            with _opened(uri, codec_whitelist="none") as looked_at:
                for width, height in _sizes(looked_at):
                    check_size(width, height)
        return container or _opened(uri, hwaccel)
    except MemoryError:
        raise out_of_memory() from None
    except av.error.PermissionError as error:
        if error.errno == errno.EPERM and _may_be_read(uri):  # -1, by which some demuxers give up
            raise VideoError("not_a_video", "its demuxer gives up without a reason") from None
        raise VideoError("io", message(error)) from None
    except OSError as error:
        raise VideoError("io", message(error)) from None
    except av.error.ArgumentError as error:
        raise VideoError("not_a_video", f"{message(error)}: no container of video, or one that is not read") from None
    except av.error.FFmpegError as error:
        raise VideoError("not_a_video", message(error)) from None
    except ValueError as error:  # no name of a file, or of nothing that pyarrow knows
        raise VideoError("io", message(error)) from None


def _opened_with_limits(uri: str, hwaccel: HWAccel | None) -> Any:
    """None for a file whose header names no streams: the decoders that FFmpeg tries while it looks for them would have
    no limits, which PyAV says when there are options for a stream."""
    try:
        return _opened(uri, hwaccel, stream_options=[{}])
    except ValueError as error:
        if "stream_options" not in str(error):
            raise
        return None


def _sizes(container: Any) -> list[tuple[int, int]]:
    """(width, height) of the video streams that can be decoded, 0 where it is not known."""
    contexts = [stream.codec_context for stream in container.streams.video]
    return [(context.width, context.height) for context in contexts if context is not None]


def _opened(
    uri: str,
    hwaccel: HWAccel | None = None,
    *,
    stream_options: list[dict[str, str]] | None = None,
    **options: str,
) -> Any:
    how: Any = {"stream_options": stream_options, "metadata_errors": "replace", "hwaccel": hwaccel}
    if is_remote(uri):
        # Nothing may be opened but what is given.
        return av.open(_open_bytes(uri), options={**_OPTIONS, "protocol_whitelist": "none", **options},
                       buffer_size=_RANGE_BYTES, **how)  # fmt: skip
    # An explicit protocol, so that a name with a colon is still a name.
    return av.open(f"file:{local_path(uri)}", options={**_OPTIONS, "protocol_whitelist": "file", **options}, **how)


def _may_be_read(uri: str) -> bool:
    try:
        with _open_bytes(uri) as file:
            file.read(1)
    except OSError:
        return False
    return True


def _open_bytes(uri: str) -> Any:
    if not is_remote(uri):
        return open(local_path(uri), "rb")
    store, path = Stores().at(uri)
    return store.filesystem.open_input_file(path)


_EBML_HEAD = 12
"""An id of four bytes and a size of at most eight."""


def matroska_is_cut(uri: str) -> bool:
    """Whether the file ends before the size its segment states (RFC 8794, RFC 9559); FFmpeg passes over this
    silently."""
    with _open_bytes(uri) as file:
        head = file.read(4096)
        file.seek(0, os.SEEK_END)
        n_bytes = file.tell()
    if len(head) < _EBML_HEAD:
        return True
    size, at = _ebml_size(head, 4)
    at += size
    if len(head) < at + _EBML_HEAD or head[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    size, start = _ebml_size(head, at + 4)
    return size >= 0 and start + size > n_bytes


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length size at `at` and where it ends; -1 stands for "unknown" (all ones: a live stream)."""
    length = 9 - data[at].bit_length() if data[at] else 9
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    unknown = value == (1 << 7 * length) - 1
    return (-1 if unknown else value), at + length


def message(error: BaseException) -> str:
    """The decoder's own words, without the path that the row already has."""
    if isinstance(error, av.error.FFmpegError):
        said: Any = error.log  # (level, who, what), whatever its annotation says
        detail = f" ({said[1]}: {said[2].strip()})" if said else ""
        return f"{error.strerror}{detail}"
    return getattr(error, "strerror", None) or str(error)
