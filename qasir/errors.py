"""The errors users meet. Every message names the input that was wrong and what to do about it."""


class QasirError(Exception):
    """Base of every error that a job prints as one line and turns into a non-zero exit."""


class CorpusError(QasirError):
    """The videos that were asked for cannot be listed: no such folder, nothing in it, two videos with one id."""


class UriError(QasirError, ValueError):
    """A path or URI that cannot be used: it carries credentials, its protocol is not read, or its name is no text."""


class SpecError(QasirError):
    """A setting is out of range, or an index was opened with another encoder spec than its own."""


class ConfigError(QasirError):
    """A configuration file is malformed: the message names the line and the key."""


class ModelError(QasirError):
    """A VLM cannot be built: unknown name or tag, missing weights, or something it cannot give."""


class NoIndexError(QasirError):
    """There is no index, or nothing in it to search."""


class UnreadableIndexError(QasirError):
    """Something is where the index should be, but it cannot be read as one."""


class StorageError(QasirError, OSError):
    """A disk, a file system or an object store refuses: it is full, read-only or out of reach, or a file of an index is
    cut short. An OSError too, for whoever tries again after one."""


class IndexHeldError(QasirError):
    """Another job is writing the index."""


class QueryError(QasirError):
    """A query or an annotation file is malformed."""


class FeaturesError(QasirError):
    """A file of features cannot be read or used: not written whole, of another shape, not of vectors."""


class UnknownVideoError(QueryError):
    """A query names a video that the index does not have."""


class ServerError(QasirError):
    """A search page that was asked does not answer, or says what is wrong."""


class VideoError(QasirError):
    """A video that cannot be used. `kind` is one of `ERROR_KINDS`; it ends as a failed row, never as a failed job."""

    def __init__(self, kind: str, message: str) -> None:
        assert kind in ERROR_KINDS, kind
        super().__init__(message)
        self.kind = kind


ERROR_KINDS = {
    "io": "the file cannot be opened or read (missing, no permission, an object store's error)",
    "not_a_video": "no demuxer takes it: empty, not a video, or its header is damaged beyond use",
    "no_video_stream": "a container without a video stream (audio only, subtitles only)",
    "unsupported_codec": "the video stream's codec has no decoder here",
    "no_frames": "a video stream from which not one frame could be decoded",
    "decode": "damage in the middle or a cut end; --allow-partial keeps what did decode",
    "timestamps": "broken timestamps: a jump of more than an hour between two frames",
    "too_large": "frames larger than the stated limit, or decoding that takes more memory than it may; it is refused",
    "too_long": "the header or timestamps promise more samples than the stated bounds, in all or for the file's size",
    "not_finite": "the encoder gave an embedding with NaN or infinite numbers, which is never stored",
    "features": "imported features that cannot be used: unreadable, of another shape or dimension, not normalised",
    "timed_out": "decoding made no progress for the time limit (--decode-timeout); its process was ended",
    "crashed": "the process that decoded it died",
}
"""Every kind of failure, as written to `videos.error_kind`, and what it means."""
