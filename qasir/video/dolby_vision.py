"""Names Dolby Vision whose colours only its own decoders can tell.

Profiles 8 (HEVC) and 10.1, 10.4 (AV1) and the base layers of 4 and 7 are PQ, HLG or the standard range by themselves,
and are read as that. Profiles 5 (HEVC) and 10.0 (AV1) are coded as IPT-PQ-c2, after a reshaping that travels with each
frame: read as anything else, they look green and violet.
"""

import sys

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from qasir.video.tone_map import side_data

_PROFILE = 4
"""Where FFmpeg's AVDOVIRpuDataHeader has `vdr_rpu_profile`."""
_POINTER = 8
_HEVC, _AV1 = "Dolby Vision profile 5", "Dolby Vision profile 10.0"


def unread_profile(frame: VideoFrame, codec: str) -> str | None:
    """The profile of a frame with colours that nothing here can tell; None for any other frame.

    codec: the decoder's name.
    """
    data = side_data(frame).get(Type.DOVI_METADATA, b"")
    at = int.from_bytes(data[:_POINTER], sys.byteorder) + _PROFILE
    if at >= len(data) or data[at] != 0:
        return None
    return _HEVC if codec == "hevc" else _AV1
