"""Migrated databases for tests: made once per kind and test run, copied for each test."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from control_api.store.migrate import migrate
from tests.integration.postgres import fresh_database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
numbers = count(1)


def sqlite_databases(folder: Path) -> Callable[[], str]:
    """A function that gives the URL of one more migrated database in `folder`."""
    template = folder / "template.db"
    migrate(f"sqlite:///{template}", backups=folder, now=NOW)
    with closing(sqlite3.connect(template)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def another() -> str:
        path = folder / f"test{next(numbers)}.db"
        shutil.copyfile(template, path)
        return f"sqlite:///{path}"

    return another


def postgres_databases(server: str, folder: Path) -> Callable[[], str]:
    """As `sqlite_databases`, on a server of `tests.integration.postgres`."""
    template = fresh_database(server, "template")
    migrate(template, backups=folder, now=NOW)

    def another() -> str:
        name = f"test{next(numbers)}"
        with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template STRATEGY file_copy").format(sql.Identifier(name))
            )
        return server.rpartition("/")[0] + "/" + name

    return another
