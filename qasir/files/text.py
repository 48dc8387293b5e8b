"""Reads files of text that users give."""

from pathlib import Path

from qasir.errors import QasirError
from qasir.files.readable import reason


def read_text(path: str | Path, what: str, error: type[QasirError]) -> str:
    """The text of a file in UTF-8, without a byte-order mark. what: such a file is called in messages.

    Raises `error` that names a file that is not there or cannot be read as text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise error(f"no such {what}: {path}") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read as text ({reason(cause)})") from None
