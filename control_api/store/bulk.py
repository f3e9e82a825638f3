"""Many rows at once, past SQLAlchemy: the statements of the journal's hot path, written once per table.

SQLite executes one prepared statement per row; PostgreSQL gets all rows as arrays in one statement (`unnest`; COPY
would be refused under row-level security). Rows are sequences in the order of `columns`; values go to the driver as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import Double, Integer, LargeBinary, Table

from control_api.store.database import ReadSession, WriteSession
from control_api.store.types import Moment

Row = Sequence[Any]


class BulkTable:
    """Inserts, updates and reads rows of one table by its primary key."""

    def __init__(self, table: Table, *, name: str | None = None, columns: Sequence[str] | None = None) -> None:
        self.name = name or table.name
        self.columns = tuple(columns or (column.name for column in table.columns))
        self.key = tuple(column.name for column in table.primary_key if column.name in self.columns)
        self._types = {name: _postgres_type(table, name) for name in self.columns}
        self._inserts: dict[tuple[bool, str], str] = {}

    def insert(
        self, session: WriteSession, rows: Sequence[Row], *, existing: Literal["refuse", "keep", "replace"] = "refuse"
    ) -> None:
        """Insert rows of different keys. `existing`: what is done with a row whose key is there already."""
        if not rows:
            return
        is_sqlite = session.dialect.name == "sqlite"
        statement = self._inserts.get((is_sqlite, existing)) or self._insert(is_sqlite, existing)
        if is_sqlite:
            _driver(session).executemany(statement, rows)
        else:
            _driver(session).execute(statement, _turned(rows))

    def _insert(self, is_sqlite: bool, existing: str) -> str:
        """The statement, written once: it is long, and batches are many."""
        changes = ", ".join(f'"{name}" = excluded."{name}"' for name in self.columns if name not in self.key)
        conflict = {
            "refuse": "",
            "keep": " ON CONFLICT DO NOTHING",
            "replace": f" ON CONFLICT ({_listed(self.key)}) DO UPDATE SET {changes}",
        }[existing]
        marks = ", ".join("?" * len(self.columns))
        values = f"VALUES ({marks})" if is_sqlite else f"SELECT * FROM {self._unnest(self.columns)}"
        statement = f"INSERT INTO {self.name} ({_listed(self.columns)}) {values}{conflict}"
        self._inserts[is_sqlite, existing] = statement
        return statement

    def update(self, session: WriteSession, changing: Sequence[str], rows: Sequence[Row]) -> None:
        """Set the columns `changing` of each row; a row holds these, then the key."""
        if not rows:
            return
        if session.dialect.name == "sqlite":
            changes = ", ".join(f'"{name}" = ?' for name in changing)
            where = " AND ".join(f'"{name}" = ?' for name in self.key)
            _driver(session).executemany(f"UPDATE {self.name} SET {changes} WHERE {where}", rows)
            return
        columns = (*changing, *self.key)
        changes = ", ".join(f'"{name}" = given."{name}"' for name in changing)
        where = " AND ".join(f'{self.name}."{name}" = given."{name}"' for name in self.key)
        given = f"{self._unnest(columns)} AS given ({_listed(columns)})"
        _driver(session).execute(f"UPDATE {self.name} SET {changes} FROM {given} WHERE {where}", _turned(rows))

    def find(self, session: ReadSession, keys: Sequence[Row], *, lock: bool = True) -> list[Row]:
        """The rows with these keys, locked until the commit unless not `lock`; those that do not exist are left out."""
        if not keys:
            return []
        query = f"SELECT {_listed(self.columns, self.name)} FROM {self.name}"
        if session.dialect.name == "sqlite":
            where = " AND ".join(f'"{name}" = ?' for name in self.key)
            execute = _driver(session).execute
            return [row for key in keys for row in execute(f"{query} WHERE {where}", key).fetchall()]
        join = f"JOIN {self._unnest(self.key)} AS given ({_listed(self.key)}) USING ({_listed(self.key)})"
        order = f"ORDER BY {_listed(self.key, self.name)} FOR UPDATE OF {self.name}"  # all writers lock in one order
        return list(_driver(session).execute(f"{query} {join} {order if lock else ''}", _turned(keys)).fetchall())

    def _unnest(self, columns: Sequence[str]) -> str:
        return "unnest(" + ", ".join(f"%s::{self._types[name]}[]" for name in columns) + ")"


def _driver(session: ReadSession) -> Any:
    """The driver's own connection: sqlite3's or psycopg's; both have `execute`."""
    return session.connection.driver_connection if session.dialect.name == "sqlite" else session.connection.cursor()


def _turned(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def _listed(columns: tuple[str, ...], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns)


def _postgres_type(table: Table, column: str) -> str:
    kind = table.c[column].type
    if isinstance(kind, Moment | Double):
        return "double precision"
    if isinstance(kind, Integer):
        return "integer"
    return "bytea" if isinstance(kind, LargeBinary) else "text"
