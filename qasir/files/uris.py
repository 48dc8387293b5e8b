"""Local paths and URIs of object stores."""

from pathlib import Path
from urllib.parse import urlsplit


def is_remote(uri: str) -> bool:
    """Whether a URI names an object store rather than a local path."""
    return "://" in uri and len(urlsplit(uri).scheme) > 1


def absolute_uri(uri: str) -> str:
    """A URI as it is, a local path absolute: workers run elsewhere, and must not depend on the working directory."""
    return uri if is_remote(uri) else str(Path(uri).absolute())
