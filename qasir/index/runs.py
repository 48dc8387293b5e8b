"""The `runs` table: a row a run, and the conditional insert by which only one of two runs gets an epoch."""

from datetime import datetime
from typing import Any

import lance
import pyarrow as pa

from qasir.index.filters import quote
from qasir.index.schemas import PRIMARY_KEY, runs_schema

_CLAIM = ["run_id", "job", "holder", "started", "heartbeat", "ended", "epoch", "process", "beat", "heard_s", "lease_s"]
Row = dict[str, Any]
_RACED = ("concurrent writers", "Incompatible transaction")
"""What Lance says of two who write one table at once, the second where one of them makes it."""


class Runs:
    """The table at `uri`, which is made, or brought up to date, when it is first needed."""

    def __init__(self, uri: str, metadata: dict[bytes, bytes]) -> None:
        self.uri = uri
        self._metadata = metadata

    def prepare(self) -> None:
        """Make the table, or give one of an older format its key. Two may do so at once: they do the same."""
        try:
            table = lance.dataset(self.uri)
        except (ValueError, OSError) as error:
            if "was not found" not in str(error):
                raise
            schema = runs_schema().with_metadata(self._metadata)
            try:
                lance.write_dataset(schema.empty_table(), self.uri, schema=schema, mode="create")
            except OSError as raced:
                if "already exists" not in str(raced):
                    raise
            return
        if "epoch" not in table.schema.names:
            _retried(self._add_epochs)
        if not _has_key(lance.dataset(self.uri)):
            _retried(self._set_key)

    def newest(self) -> list[Row]:
        """The rows of the newest epoch: one, or of a table that only an older library wrote all that have not ended."""
        newest, _ = self.newest_holder()
        condition = f"epoch = {newest}" if newest else "ended IS NULL"
        return lance.dataset(self.uri).to_table(columns=_CLAIM, filter=condition).to_pylist()

    def newest_holder(self) -> tuple[int, str]:
        """(the newest epoch, 0 when there is none; the run that has it); of two, which only a table mended by hand can
        have, the last."""
        rows = lance.dataset(self.uri).to_table(columns=["epoch", "run_id"]).to_pylist()
        return max(((row["epoch"], row["run_id"]) for row in rows), default=(0, ""))

    def insert(self, row: Row) -> bool:
        """Insert a row whose epoch nobody has yet; False when another got it, or when that has to be tried again."""
        table = lance.dataset(self.uri)
        rows = pa.Table.from_pylist([row], schema=table.schema)
        failure: Exception | None = None
        try:
            table.merge_insert("epoch").when_not_matched_insert_all().conflict_retries(0).execute(rows)
        except (OSError, ValueError) as error:  # whether it was written nevertheless, the table says
            failure = error
        where = f"epoch = {row['epoch']}"
        there = lance.dataset(self.uri).to_table(columns=["run_id"], filter=where)["run_id"].to_pylist()
        if failure is not None and not there and not any(sign in str(failure) for sign in _RACED):
            raise failure
        return there == [row["run_id"]]

    def update(self, run_id: str, values: Row) -> None:
        texts = {name: _sql(value) for name, value in values.items()}
        lance.dataset(self.uri).update(texts, where=f"run_id = {quote(run_id)}")

    def all(self, columns: list[str]) -> list[Row]:
        """Every row, oldest first."""
        names = list(dict.fromkeys([*columns, "epoch", "started"]))
        rows = lance.dataset(self.uri).to_table(columns=names)
        return rows.sort_by([("epoch", "ascending"), ("started", "ascending")]).to_pylist()

    def _add_epochs(self) -> None:
        table = lance.dataset(self.uri)
        if "epoch" not in table.schema.names:
            table.add_columns({"epoch": "CAST(0 AS BIGINT)"})
        new = [field for field in runs_schema() if field.name not in table.schema.names]
        if new:
            table.add_columns([field.remove_metadata() for field in new])

    def _set_key(self) -> None:
        key: dict[str, str | None] = {name.decode(): value.decode() for name, value in PRIMARY_KEY.items()}
        table = lance.dataset(self.uri)
        if not _has_key(table):  # Lance sets it once
            table.update_field_metadata({"epoch": key})


def _has_key(table: lance.LanceDataset) -> bool:
    return next(iter(PRIMARY_KEY)) in (table.schema.field("epoch").metadata or {})


def _retried(change: Any) -> None:
    """Do it again where another did the same at once."""
    for left in (2, 1, 0):
        try:
            change()
            return
        except (OSError, ValueError):
            if not left:
                raise


def _sql(value: Any) -> str:
    if isinstance(value, datetime):
        return f"timestamp '{value:%Y-%m-%d %H:%M:%S.%f}'"
    return quote(value) if isinstance(value, str) else repr(value)
