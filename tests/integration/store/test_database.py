"""Reads, and the one writer with its group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from control_api.store import partitions
from control_api.store.bulk import BulkTable
from control_api.store.database import Database, Lane, ReadSession, WriteSession
from control_api.store.tables import identities, organizations
from control_api.store.upsert import insert_missing, upsert
from orchestrator_runtime.contract.errors import Unavailable

NOW = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)


def add(name: str) -> Any:
    return lambda session: session.execute(insert(organizations).values(id=name, name=name, created_at=NOW))


async def queue(database: Database, lane: Lane, *items: Any) -> list[Any]:
    """The outcomes of items that are queued in one turn."""
    outcomes: dict[int, Any] = {}
    for index, item in enumerate(items):
        database.enqueue(lane, item, partial(outcomes.__setitem__, index))
    await database.write(lambda session: None)
    return [outcomes[index] for index in range(len(items))]


def names(session: ReadSession) -> list[str]:
    return sorted(session.execute(select(organizations.c.id)).scalars())


async def test_a_write_is_seen_by_every_later_read(database: Database) -> None:
    await database.write(add("a"))
    assert await database.read(names) == ["a"]
    assert await database.read(lambda session: session.execute(select(organizations.c.created_at)).scalar_one()) == NOW


async def test_writes_of_one_turn_are_one_transaction_and_a_bad_one_fails_alone(database: Database) -> None:
    def broken(session: WriteSession) -> None:
        add("lost")(session)
        raise LookupError("broken")

    done = await asyncio.gather(*map(database.write, (add("a"), broken, add("b"))), return_exceptions=True)
    assert isinstance(done[1], LookupError)
    assert await database.read(names) == ["a", "b"]


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable) as refused:
        await database.read(add("a"))
    assert any(word in str(refused.value.__cause__) for word in ("readonly", "read-only"))


async def test_the_database_s_own_errors_are_problems(database: Database) -> None:
    await database.write(add("a"))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.write(add("a"))
    [problem] = await queue(database, Statements(), "no such statement")
    assert (type(problem), problem.code) == (Unavailable, "storage_unavailable")
    with pytest.raises(Unavailable) as refused:
        await database.read(lambda session: session.execute(text("no such statement")))
    assert refused.value.code == "storage_unavailable"


class Statements:
    """A lane of SQL statements, that fails as a whole."""

    def __init__(self) -> None:
        self.batches: list[Sequence[str]] = []

    def execute(self, session: WriteSession, items: Sequence[str]) -> list[str]:
        self.batches.append(items)
        for item in items:
            session.execute(text(item))
        return list(items)


async def test_a_lane_gets_everything_that_is_queued_and_then_one_by_one_if_that_fails(database: Database) -> None:
    lane = Statements()
    good = [
        "INSERT INTO organizations VALUES ('a', 'a', NULL, 0)",
        "INSERT INTO organizations VALUES ('b', 'b', NULL, 0)",
    ]
    done = await queue(database, lane, good[0], "nonsense", good[1])
    assert (done[0], done[2]) == tuple(good)
    assert isinstance(done[1], Unavailable)
    assert [len(batch) for batch in lane.batches] == [3, 1, 1, 1]
    assert await database.read(names) == ["a", "b"]


async def test_a_write_that_nobody_waits_for_any_more_stands(database: Database) -> None:
    writing = asyncio.ensure_future(database.write(add("a")))
    await asyncio.sleep(0)
    writing.cancel()
    await database.write(add("b"))
    assert await database.read(names) == ["a", "b"]


async def test_a_defect_of_one_who_is_told_an_outcome_keeps_no_other_from_theirs(database: Database) -> None:
    def broken(outcome: Any) -> None:
        raise LookupError("broken")

    database.enqueue(Statements(), "INSERT INTO organizations VALUES ('a', 'a', NULL, 0)", broken)
    await database.write(add("b"))
    assert await database.read(names) == ["a", "b"]


async def test_upserts(database: Database) -> None:
    row = {"id": "a", "name": "one", "created_at": NOW}
    for name in ("two", "three"):
        await database.write(lambda session: insert_missing(session, organizations, row))
        await database.write(
            lambda session, name=name: upsert(session, organizations, row, {"name": name})  # type: ignore[misc]
        )
    assert await database.read(lambda session: session.execute(select(organizations.c.name)).scalar_one()) == "three"


async def test_bulk_rows_are_inserted_kept_replaced_and_found(database: Database) -> None:
    table = BulkTable(identities)

    def row(key: str, run: str) -> tuple[Any, ...]:
        return ("o", "key", "a", key, run, None, 1.5)

    def work(session: WriteSession) -> list[Any]:
        table.insert(session, [])
        table.update(session, ["run"], [])
        table.insert(session, [row("1", "first"), row("2", "first")])
        table.insert(session, [row("2", "second"), row("3", "second")], existing="keep")
        table.insert(session, [row("3", "third"), row("4", "third")], existing="replace")
        table.update(session, ["run"], [("fourth", "o", "key", "a", "4")])
        assert table.find(session, []) == []
        keys = [("o", "key", "a", str(number)) for number in range(6)]
        return sorted(tuple(found[3:5]) for found in table.find(session, keys))

    found = await database.write(work)
    assert found == [("1", "first"), ("2", "first"), ("3", "third"), ("4", "fourth")]


async def test_a_row_that_is_there_is_refused_unless_that_is_said(database: Database) -> None:
    table = BulkTable(identities)
    rows = [("o", "key", "a", "k", "r", None, 1.5)]
    await database.write(lambda session: table.insert(session, rows))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.write(lambda session: table.insert(session, rows))
    count = select(func.count()).select_from(identities)
    assert await database.read(lambda session: session.execute(count).scalar_one()) == 1


async def test_weeks_are_made_once_and_dropped_whole(database: Database) -> None:
    assert partitions.week(NOW) == "2026w01"
    assert partitions.week_end("2026w01") == datetime(2026, 1, 5, tzinfo=UTC)
    for _ in range(2):
        await database.write(lambda session: partitions.create(session, "2026w01"))
    assert await database.read(partitions.existing) == ["2026w01"]
    await database.write(lambda session: partitions.drop(session, "2026w01"))
    assert await database.read(partitions.existing) == []
    await database.write(lambda session: partitions.create(session, "2026w01"))
