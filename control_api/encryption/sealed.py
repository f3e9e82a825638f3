"""Every column that holds sealed values, and where each value stands: what has to be sealed anew with a new key.

A test compares this with the tables: a column of bytes is here, or is named there with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table

from control_api.journal.checkpoints import blob_context, context
from control_api.journal.ledger import event_context, headers_context
from control_api.journal.sessions import session_context
from control_api.secrets.service import secret_context
from control_api.store import tables
from control_api.store.bulk import BulkTable
from control_api.store.database import ReadSession
from control_api.store.partitions import events_of, existing, payloads_of

Key = Mapping[str, Any]
"""The primary key of a row, by column."""
PLACE = ("organization", "agent", "thread", "namespace", "checkpoint")


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed values; the primary key of a row begins with its organization and gives its context."""

    table: Table
    column: str
    context: Callable[[Key], bytes]

    @property
    def key(self) -> tuple[Column[Any], ...]:
        return tuple(self.table.primary_key.columns)

    def rows(self) -> BulkTable:
        """Key and value of rows, in this order."""
        return BulkTable(self.table, columns=[*(column.name for column in self.key), self.column])


def _checkpoint(kind: str) -> Callable[[Key], bytes]:
    return lambda key: context(kind, [key[name] for name in PLACE])


def _write(key: Key) -> bytes:
    return context("write", [*(key[name] for name in PLACE), key["task"], str(key["index"])])


STANDING = (
    SealedColumn(tables.secret_versions, "sealed", lambda key: secret_context(key["name"])),
    SealedColumn(tables.runs, "headers", lambda key: headers_context(key["id"])),
    SealedColumn(tables.sessions, "state", lambda key: session_context(key["agent"], key["id"])),
    SealedColumn(tables.checkpoints, "projection", _checkpoint("projection")),
    SealedColumn(tables.checkpoints, "body", _checkpoint("checkpoint")),
    SealedColumn(tables.checkpoint_blobs, "body", lambda key: blob_context(key["thread"], key["address"])),
    SealedColumn(tables.checkpoint_writes, "body", _write),
)


def _weekly(events: Table, payloads: Table) -> tuple[SealedColumn, ...]:
    return (
        SealedColumn(events, "inline", lambda key: event_context(key["run"], key["seq"])),
        SealedColumn(payloads, "sealed", lambda key: bytes(key["address"])),
    )


WEEKLY = _weekly(tables.run_events, tables.payloads)


def sealed_columns(session: ReadSession) -> list[SealedColumn]:
    """Those of this database, with the tables of each week that there is."""
    weeks = (column for week in existing(session) for column in _weekly(events_of(week), payloads_of(week)))
    return [*STANDING, *weeks]
