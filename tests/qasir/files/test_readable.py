"""Errors in one line, and names that cannot steer a terminal."""

import pytest

from qasir.files.readable import printable, reason

IN_LANCE = "/home/runner/work/lance/lance/rust/lance-io/src/local.rs:273:40"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(f"LanceError(IO): No space left (os error 28), {IN_LANCE}"), "No space left (os error 28)"),
        (ValueError(f"External error: LanceError(IO): Generic S3 error: 503, {IN_LANCE}, {IN_LANCE}"), "503"),
        (ValueError(f"Invalid user input: no field (Invalid: x, {IN_LANCE}), {IN_LANCE}"), "no field (Invalid: x)"),
        (ValueError("\n  first line\nsecond line"), "first line"),
        (OSError(13, "Permission denied", "/x/y"), "Permission denied: /x/y"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(), "OSError"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("a \x1b[31mred\x1b[0m name"), "a \\x1b[31mred\\x1b[0m name"),
    ],
)  # fmt: skip
def test_an_errors_reason_is_its_first_line_without_what_only_its_author_needs(error, line):
    assert reason(error) == line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nINFO all is well", "a\\nINFO all is well"),
        ("a\r\tb\x7f", "a\\r\\tb\\x7f"),
        ("gpj\u202e4pm.exe\u2069", "gpj\\u202e4pm.exe\\u2069"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("caf\udce9", "caf\\udce9"),
        ("\ufeffa", "\\ufeffa"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(name, shown):
    assert printable(name) == shown


@pytest.mark.parametrize("name", ["plain", "grüße 日本語 नमस्ते", "می\u200cخواهم", "👩\u200d🚀", "a\xa0b", "a\\nb", ""])
def test_letters_of_all_scripts_stay_as_they_are(name):
    assert printable(name) == name


def test_what_is_asked_for_is_kept():
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
