"""Engines with the settings that durability depends on. Only `database` keeps any; others open one for a look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url

POOL = 4  # reading connections
CONNECT_TIMEOUT = "4"  # seconds to a PostgreSQL; the driver's own is more than two minutes

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a commit is on the disk before anyone hears of it
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=10000",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-32768",
)


def open_engine(url: str, *, writing: bool) -> Engine:
    """An engine for `url`; SQLite's driver is told to leave transactions to us, so that BEGIN really begins one."""
    if make_url(url).get_backend_name() == "sqlite":
        return _sqlite(url, writing=writing)
    arguments = {"options": "" if writing else "-c default_transaction_read_only=on"}
    if "connect_timeout" not in make_url(url).query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT
    return create_engine(
        url, pool_size=1 if writing else POOL, max_overflow=0, pool_pre_ping=True, connect_args=arguments
    )


@contextmanager
def short_lived(url: str, *, writing: bool) -> Iterator[Engine]:
    """An engine for one look or one piece of work."""
    engine = open_engine(url, writing=writing)
    try:
        yield engine
    finally:
        engine.dispose()


def _sqlite(url: str, *, writing: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=1 if writing else POOL,
        max_overflow=0,
        connect_args={"check_same_thread": False, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        connection.isolation_level = None
        for pragma in (*SQLITE_PRAGMAS, f"PRAGMA query_only={'OFF' if writing else 'ON'}"):
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if writing else "BEGIN")  # past SQLAlchemy, which takes ten times as long

    return engine
