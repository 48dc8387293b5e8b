"""Which SQL conditions a server takes from whoever asks: those that cost next to nothing, whatever the index holds.

A condition is worked out for every video, so one function that makes long texts of short ones (`repeat`, `lpad`,
`replace` in `replace`) would take the memory of the machine. Functions are therefore taken by a list; and so are the
signs that a condition is written with, since an unusual way to quote could hide a call.
"""

import re

from qasir.errors import QueryError

FUNCTIONS = frozenset(
    {
        "abs", "btrim", "cast", "char_length", "character_length", "coalesce", "contains", "date_part", "date_trunc",
        "ends_with", "isnan", "left", "length", "lower", "ltrim", "nullif", "octet_length", "right", "round",
        "rtrim", "split_part", "sqrt", "starts_with", "strpos", "try_cast", "upper",
    }
)  # fmt: skip
"""None gives more than a few times what it takes."""
_WORDS = frozenset({"and", "between", "ilike", "in", "is", "like", "not", "or"})
"""Words of SQL that a parenthesis may follow."""
_TOKEN = re.compile(r"""\s+|(?P<text>'[^']*')|(?P<name>"[^"]*"|`[^`]*`|\w+)|(?P<sign>::|[-+*/%<>=!|&.,()])""")


def check_cheap(where: str) -> None:
    """Raises QueryError for a condition with another function than FUNCTIONS, or with a sign that none needs."""
    at, last, kind = 0, "", None
    while at < len(where):
        token = _TOKEN.match(where, at)
        if token is None:
            raise QueryError(f"the filter {where!r} has a sign that is not taken here: {where[at : at + 20]!r}")
        at = token.end()
        if token.lastgroup is None:
            if last and kind == "name":
                kind = "name and space"
            continue
        if token.lastgroup == "text" and kind == "name":
            raise QueryError(f"the filter {where!r}: a text is quoted as 'x', with nothing right before it")
        if token[0] == "(" and kind is not None and kind.startswith("name"):
            _check_called(where, last)
        kind, last = token.lastgroup, token[0]


def _check_called(where: str, name: str) -> None:
    plain = name.strip('"`').lower()
    if plain not in FUNCTIONS and not (name == name.strip('"`') and plain in _WORDS):
        raise QueryError(
            f"the filter {where!r}: {plain}(...) is not taken here, but only {', '.join(sorted(FUNCTIONS))}"
        )
