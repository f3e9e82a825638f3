"""INSERT … ON CONFLICT, which both databases have and SQLAlchemy spells once for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from control_api.store.database import WriteSession


def insert_missing(session: WriteSession, table: Table, values: Mapping[str, Any]) -> None:
    """Insert the row unless one with its primary key is there."""
    session.execute(_insert(session, table).values(dict(values)).on_conflict_do_nothing())


def upsert(session: WriteSession, table: Table, values: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Insert the row; where one with its primary key is there, make `changes` to that (values or expressions)."""
    key = [column.name for column in table.primary_key]
    session.execute(
        _insert(session, table).values(dict(values)).on_conflict_do_update(index_elements=key, set_=dict(changes))
    )


def _insert(session: WriteSession, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if session.dialect.name == "postgresql" else sqlite.insert(table)
