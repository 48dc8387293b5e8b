"""Local paths and URIs of object stores: how they are told apart, written down and read.

What is written down is valid UTF-8, travels through Arrow and names one file only:

    /videos/a b.mp4         a local path, as it is
    file:///videos/%FF.mp4  a local path whose name is not UTF-8, its bytes percent-encoded
    s3://bucket/a b.mp4     an object: a key as it is, but for `?` and for `%` before two hexadecimal digits
    s3://bucket/a.mp4?region=eu-west-1   the same with options of the store, as `name=value&name=value`
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from qasir.errors import UriError
from qasir.files.credentials import check_no_credentials, redacted

_REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)
_QUERY = re.compile(r"\?(?=[A-Za-z][\w.-]*=)")
"""A `?` that begins a query rather than being a part of a name."""
_QUOTED_IN_KEYS = re.compile(r"%(?=[0-9A-Fa-f]{2})|\?")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def is_remote(uri: str) -> bool:
    """Whether a URI names an object store rather than a local path, which `file://` does too."""
    return _REMOTE.match(uri) is not None


def local_path(uri: str) -> str:
    """The path that a local path or a `file://` URI names, as `os` takes it: bytes that are not UTF-8 are surrogates.

    Raises UriError for a file on another host.
    """
    if uri[:7].lower() != "file://":
        return uri
    path = uri[7:].removeprefix("localhost")
    if not path.startswith("/"):
        raise UriError(f"{shown(redacted(uri))} names a host: a local file is written file:///path/to/it")
    return unquote(path, errors="surrogateescape")


def stored_path(path: str) -> str:
    """The form of a local path that can be written down, of which `local_path` makes the path again."""
    return path if shown(path) == path else "file://" + quote(os.fsencode(path))


def shown(name: str) -> str:
    r"""A name as text: bytes that are not UTF-8 and NUL as `\xNN`, other lone surrogates as `\uNNNN`."""
    return _NO_TEXT.sub(_escaped, name)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0:
        return "\\x00"
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def quoted_key(key: str) -> str:
    """The key of an object as it stands in a URI."""
    return _QUOTED_IN_KEYS.sub(lambda match: quote(match[0], safe=""), key)


def without_query(uri: str) -> str:
    """A URI of an object store without its options."""
    return _QUERY.split(uri, maxsplit=1)[0]


def absolute_uri(uri: str) -> str:
    """An index's place: a URI as it is, a local path absolute, since workers must not depend on the working directory.

    Raises UriError for one that carries credentials or options, or is not UTF-8.
    """
    check_no_credentials(uri)
    if is_remote(uri):
        if RemoteUri.parse(uri).query:
            raise UriError(f"{uri}: an index's URI takes no options: give them in the environment (AWS_REGION, say)")
        return uri
    path = str(Path(local_path(uri)).absolute())
    if shown(path) != path:
        raise UriError(f"{shown(path)} is not UTF-8, as the tables of an index must be: name another folder")
    return path


def same_place(one: str, other: str) -> bool:
    """Whether two local paths or URIs are the same but for how they are written."""
    return one == other or _plain(one) == _plain(other)


def _plain(uri: str) -> str:
    return uri if is_remote(uri) else local_path(uri)


@dataclass(frozen=True)
class RemoteUri:
    """A URI of an object store in parts. `authority` is the bucket or host, `key` what comes after it, as it is called
    there; `query` has the store's options."""

    scheme: str
    authority: str
    key: str
    query: str = ""

    @classmethod
    def parse(cls, uri: str) -> "RemoteUri":
        """Raises UriError when the key is not UTF-8."""
        scheme, rest = uri.split("://", 1)
        rest, query = (*_QUERY.split(rest, maxsplit=1), "")[:2]
        authority, _, key = rest.partition("/")
        try:
            key.encode()
            return cls(scheme.lower(), authority, unquote(key, errors="strict"), query)
        except UnicodeError:
            raise UriError(f"{shown(uri)} is not UTF-8, as names on object stores are") from None

    def with_key(self, key: str) -> str:
        """The URI of another object of the same store."""
        return f"{self.store()}/{quoted_key(key)}" + (f"?{self.query}" if self.query else "")

    def store(self) -> str:
        """The URI of all of the store, without its options."""
        return f"{self.scheme}://{self.authority}"
