"""What decoding tasks tell, and are told, by an actor. Imports next to nothing, so that its process starts fast."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Told:
    """Tables that were told and not collected yet, and whether whoever tells is to go on."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._goes_on = True

    def tell(self, table: "pa.Table") -> bool:
        """Take a table; whether to go on."""
        self._tables.append(table)
        return self._goes_on

    def collect(self) -> "list[pa.Table]":
        tables, self._tables = self._tables, []
        return tables

    def goes_on(self) -> bool:
        return self._goes_on

    def go_on(self, yes: bool) -> None:
        self._goes_on = yes
