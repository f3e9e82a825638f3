"""The queries of the hot path and of the sweeper read an index, and never all runs of an organization."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event

from control_api.journal import reading
from control_api.runs import repository
from control_api.runs.repository import Filter
from control_api.store.database import ReadSession, open_database
from orchestrator_runtime.contract.states import RunState

NOW = datetime(2026, 1, 1, tzinfo=UTC)

QUERIES: dict[str, tuple[Callable[[ReadSession], Any], str]] = {
    "due": (lambda session: reading.due(session, now=NOW, limit=10, except_agents=[]), "runs_asleep"),
    "expired": (lambda session: reading.expired(session, now=NOW), "runs_leased"),
    "told to stop": (lambda session: reading.told_to_stop(session, instance="i"), "runs_leased"),
    "waiting in sessions": (reading.stuck_in_sessions, "runs_asleep"),
    "others of a session": (reading.stuck_in_sessions, "runs_in_session"),
    "of an agent": (
        lambda session: repository.newest(session, "o", Filter(agent="a"), after=None, limit=10),
        "runs_by_agent",
    ),
    "failed": (
        lambda session: repository.newest(session, "o", Filter(state=RunState.FAILED), after=None, limit=10),
        "runs_unusual",
    ),
    "of a session": (
        lambda session: repository.newest(session, "o", Filter(agent="a", session="s"), after=None, limit=10),
        "runs_in_session",
    ),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_uses_its_index(sqlite_template: Callable[[], str], name: str) -> None:
    query, index = QUERIES[name]
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        driver = connection.connection.driver_connection
        plans.extend(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    def read(session: ReadSession) -> None:
        event.listen(session, "before_cursor_execute", explain)
        query(session)

    database = open_database(sqlite_template())
    await database.read(read)
    await database.close()
    assert any(f"USING INDEX {index}" in plan for plan in plans), plans
