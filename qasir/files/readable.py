"""Text as a person may safely read it: an error in one line, and names without what a terminal obeys."""

import logging
import re
import unicodedata

_RUST_PLACE = re.compile(r",?\s*/[^\s,()]+\.rs:\d+:\d+")
_WRAPPING = re.compile(
    r"^(?:External error|Query Execution error|Error applying filter expression to batch|LanceError\(IO\)"
    r"|Generic [\w/]+ error|Arrow error|Invalid user input|DataFusion error): "
)
_JOINERS = "\u200c\u200d"
"""Of the format characters those that names in Persian or Hindi, and some emoji, are written with."""
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def reason(error: BaseException) -> str:
    """Why, in one line without control characters: an error's first line, or its name where it says nothing.

    Lance's kinds within kinds and places in its source, Ray's and Arrow's further lines are left out; a file that the
    system's error is about is named.
    """
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename!s}"
    else:
        lines = [line.strip() for line in _RUST_PLACE.sub("", str(error)).splitlines()]
        text = next(filter(None, lines), "")
    while match := _WRAPPING.match(text):
        text = text[match.end() :]
    return printable(text.strip()) or type(error).__name__


def printable(text: str, *, keep: str = "") -> str:
    """The text with control characters, overrides of the direction of writing, line separators and lone surrogates
    written out, as in `\\x1b`; a terminal shows it and obeys none of it. keep: those that stay, "\\n" say."""
    if text.isprintable():
        return text
    return "".join(_shown(sign, keep) for sign in text)


def _shown(sign: str, keep: str) -> str:
    if sign.isprintable() or sign in keep or sign in _JOINERS or unicodedata.category(sign) not in _UNSEEN:
        return sign
    return sign.encode("unicode_escape").decode()


class OneLineFormatter(logging.Formatter):
    """What names bring along for the terminal is written out. A message stays one line, but for its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(vars(record))
        shown.msg, shown.args = printable(record.getMessage()), None
        return printable(super().format(shown), keep="\n\t")
