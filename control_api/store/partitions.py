"""Weeks: run events and payloads live in one table per ISO week, which retention drops whole.

A run keeps everything in the week in which it was created. On PostgreSQL the tables are partitions of a declared
parent; on SQLite they are plain tables of the same shape (attached files would not commit atomically).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from sqlalchemy import MetaData, Table, delete, insert, select, text
from sqlalchemy.schema import CreateTable

from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import PARTITIONED, partitions, payloads, run_events


def week(moment: datetime) -> str:
    """The partition of a moment, such as `2026w48`."""
    iso = moment.astimezone(UTC).isocalendar()
    return f"{iso.year}w{iso.week:02}"


def week_end(partition: str) -> datetime:
    """When the week is over."""
    year, number = partition.split("w")
    return datetime.fromisocalendar(int(year), int(number), 1).replace(tzinfo=UTC) + timedelta(days=7)


@cache
def events_of(partition: str) -> Table:
    return run_events.to_metadata(MetaData(), name=f"run_events_{partition}")


@cache
def payloads_of(partition: str) -> Table:
    return payloads.to_metadata(MetaData(), name=f"payloads_{partition}")


def existing(session: ReadSession) -> list[str]:
    return list(session.execute(select(partitions.c.name).order_by(partitions.c.name)).scalars())


def create(session: WriteSession, partition: str) -> None:
    """Make the tables of a week, unless they exist."""
    if session.execute(select(partitions.c.name).where(partitions.c.name == partition)).first():
        return
    session.execute(insert(partitions).values(name=partition, ends_at=week_end(partition)))
    if session.dialect.name == "sqlite":
        for table in (events_of(partition), payloads_of(partition)):
            session.execute(CreateTable(table))
        return
    for parent in PARTITIONED:
        session.execute(
            text(
                f"CREATE TABLE {parent.name}_{partition} PARTITION OF {parent.name} "
                f"(partition DEFAULT '{partition}') FOR VALUES IN ('{partition}')"
            )
        )


def drop(session: WriteSession, partition: str) -> None:
    """Drop a week with everything in it."""
    for parent in PARTITIONED:
        session.execute(text(f"DROP TABLE {parent.name}_{partition}"))
    session.execute(delete(partitions).where(partitions.c.name == partition))
