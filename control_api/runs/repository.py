"""Runs as people see them: rows and events read into views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, func, or_, select, text

from control_api.runs.schemas import EventView, RunDetails, RunView
from control_api.runs.story import attempts
from control_api.schemas import written
from control_api.store.database import ReadSession
from control_api.store.partitions import events_of
from control_api.store.tables import LEASED, UNUSUAL, runs
from orchestrator_runtime.contract.states import RunState

# Said in the words of an index, so that the index is used.
INDEXED = {
    **dict.fromkeys((RunState.PENDING, RunState.WAITING, RunState.FAILED, RunState.CANCELLED), UNUSUAL),
    RunState.RUNNING: LEASED,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """None: any."""

    agent: str | None = None
    state: RunState | None = None
    session: str | None = None


def find(session: ReadSession, organization: str, run: str) -> RowMapping | None:
    query = select(runs).where(runs.c.organization == organization, runs.c.id == run)
    return session.execute(query).mappings().one_or_none()


def newest(session: ReadSession, organization: str, wanted: Filter, *, after: str | None, limit: int) -> list[RunView]:
    """Up to `limit` runs, the newest first, of those that are older than the run `after`."""
    query = select(runs).where(runs.c.organization == organization)
    for column, value in ((runs.c.agent, wanted.agent), (runs.c.state, wanted.state), (runs.c.session, wanted.session)):
        if value is not None:
            query = query.where(column == value)
    if wanted.state in INDEXED:
        query = query.where(text(INDEXED[wanted.state]))
    if after is not None:
        query = query.where(runs.c.id < after)
    found = session.execute(query.order_by(runs.c.id.desc()).limit(limit)).mappings()
    return [RunView(**_members(row)) for row in found]


def details(session: ReadSession, row: RowMapping) -> RunDetails:
    """The run with its attempts."""
    story = events(session, row, kinds=("run.",))
    return RunDetails(**_members(row), request=row["request"], attempts=attempts(story))


def events(
    session: ReadSession,
    row: RowMapping,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Iterable[str] = (),
) -> list[EventView]:
    """Events of a run with numbers above `after`; of those whose kind begins with one of `kinds`, if given."""
    table = events_of(row["partition"])
    query = (
        select(
            *(table.c[name] for name in ("seq", "at", "kind", "step", "parent", "name", "step_kind", "data")),
            func.coalesce(func.length(table.c.inline), func.length(table.c.payload), 0).label("stored"),
        )
        .where(table.c.organization == row["organization"], table.c.run == row["id"], table.c.seq > after)
        .order_by(table.c.seq)
    )
    if prefixes := list(kinds):
        query = query.where(or_(*(table.c.kind.startswith(prefix, autoescape=True) for prefix in prefixes)))
    if limit is not None:
        query = query.limit(limit)
    return [_event(found) for found in session.execute(query).mappings()]


def _event(row: RowMapping) -> EventView:
    return EventView(
        seq=row["seq"],
        event=row["kind"],
        at=row["at"],
        step=row["step"],
        parent=row["parent"],
        name=row["name"],
        kind=row["step_kind"],
        data=_shown(row["data"]),
        has_content=row["stored"] > 0,
    )


def _shown(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is recorded with an event; the time until which a run waits is recorded in seconds since the epoch."""
    if not data or data.get("until") is None:
        return data
    return {**data, "until": written(datetime.fromtimestamp(data["until"], UTC))}


def _members(row: RowMapping) -> dict[str, Any]:
    """Members of `RunView`, which are named as the columns are."""
    members = {name: row[name] for name in RunView.model_fields if name != "correlation_id"}
    return {**members, "correlation_id": row["correlation"]}
