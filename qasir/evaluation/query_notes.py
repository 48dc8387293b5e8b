"""What readers of query files mended or left out: benchmarks' released files hold lines that are not as they should be,
and what can be scored of them is kept.

A query needs a text and a video to be ranked; it needs no moment. So a moment or a duration that makes no sense is put
right or left out, and its query stays, without a part in moment metrics and M/V unless it has another, sound moment.
The rules are the same for every format:

| kind | what is counted | what becomes of it |
| --- | --- | --- |
| bad_line | a line or an entry that its format has no meaning for | left out |
| no_text | a query whose text is not there or empty | left out |
| no_video | a query that names no video, or one of several by no id | left out |
| no_id | a query without an id | mended: its line's number is its id |
| doubled_id | a query with an id that an earlier one has | mended: kept, as `ID~2`, `ID~3`, ... |
| moment_reversed | a moment that ends before it starts | left out |
| moment_of_no_time | a moment that ends where it starts | left out |
| moment_outside | a moment that lies before its video's start or after its end | left out |
| moment_past_end | a moment that ends after its video, which the file gives a duration of | mended: cut there |
| moment_before_start | a moment that starts at less than 0 s | mended: cut there |
| moment_unreadable | a moment that is no pair of numbers | left out |
| duration_unusable | a query whose video's duration is 0, less, or not a number | left out: the index's is taken |

Durations here are those of the annotation file; where a format has none, no moment is cut.
"""

from collections import Counter
from dataclasses import dataclass, field

KINDS = {
    "bad_line": "lines that make no sense, left out",
    "no_text": "queries without a text, left out",
    "no_video": "queries without a video, left out",
    "no_id": "queries without an id, their line's number is their id",
    "doubled_id": "queries with an id that an earlier one has, kept under another",
    "moment_reversed": "moments that end before they start, left out",
    "moment_of_no_time": "moments that end where they start, left out",
    "moment_outside": "moments outside their video, left out",
    "moment_past_end": "moments that end after their video, cut at its end",
    "moment_before_start": "moments that start before 0 s, cut there",
    "moment_unreadable": "moments that are no pair of numbers, left out",
    "duration_unusable": "queries with a duration that is not one, left out",
}
MENDED = ("no_id", "doubled_id", "moment_past_end", "moment_before_start")


@dataclass
class Notes:
    """How many of each kind of `KINDS` a file had, and where the first of each was, with what was wrong there."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, what: str = "") -> None:
        assert kind in KINDS
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{where}: {what}" if what else where)

    def lines(self) -> list[str]:
        """One for each kind that there was."""
        return [
            f"{words}: {self.counts[kind]} (first {self.first[kind]})" for kind, words in KINDS.items()
            if self.counts[kind]
        ]  # fmt: skip

    def to_dict(self) -> dict[str, dict[str, int]]:
        """How many were left out and mended, by kind."""
        return {
            "left_out": {kind: self.counts[kind] for kind in KINDS if self.counts[kind] and kind not in MENDED},
            "mended": {kind: self.counts[kind] for kind in MENDED if self.counts[kind]},
        }
