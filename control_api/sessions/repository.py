"""Sessions in the database."""

from __future__ import annotations

from sqlalchemy import Column, Double, RowMapping, delete, func, literal, select, tuple_, type_coerce

from control_api.journal.ledger import OPEN_STATES
from control_api.sessions.schemas import SessionView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import (
    checkpoint_blobs,
    checkpoint_values,
    checkpoint_writes,
    checkpoints,
    runs,
    sessions,
)

Position = tuple[float, str, str]
"""Where a session is in the list: updated_at in seconds, agent, session."""
ORDER = (type_coerce(sessions.c.updated_at, Double), sessions.c.agent, sessions.c.id)


def newest(
    session: ReadSession, organization: str, *, agent: str | None, after: Position | None, limit: int
) -> list[tuple[Position, SessionView]]:
    """Up to `limit` sessions, those first whose last run is newest."""
    query = select(sessions, ORDER[0].label("moment")).where(sessions.c.organization == organization)
    if agent is not None:
        query = query.where(sessions.c.agent == agent)
    if after is not None:
        moment, *names = after
        query = query.where(tuple_(*ORDER) < tuple_(literal(moment, Double), *map(literal, names)))
    query = query.order_by(*(column.desc() for column in ORDER)).limit(limit)
    found = session.execute(query).mappings()
    return [((row["moment"], row["agent"], row["id"]), SessionView(**members(row))) for row in found]


def find(session: ReadSession, organization: str, agent: str, name: str) -> RowMapping | None:
    query = select(sessions).where(
        sessions.c.organization == organization, sessions.c.agent == agent, sessions.c.id == name
    )
    return session.execute(query).mappings().one_or_none()


def has_open_runs(session: ReadSession, organization: str, agent: str, name: str) -> bool:
    query = select(runs.c.id).where(
        runs.c.organization == organization,
        runs.c.agent == agent,
        runs.c.session == name,
        runs.c.state.in_(OPEN_STATES),
    )
    return session.execute(query.limit(1)).first() is not None


def remove(session: WriteSession, organization: str, agent: str, name: str) -> None:
    """The session with its state, and the thread of that name, which is where LangGraph's is."""
    for table in (checkpoints, checkpoint_values, checkpoint_blobs, checkpoint_writes):
        session.execute(
            delete(table).where(table.c.organization == organization, table.c.agent == agent, table.c.thread == name)
        )
    session.execute(
        delete(sessions).where(
            sessions.c.organization == organization, sessions.c.agent == agent, sessions.c.id == name
        )
    )


def checkpoint_bytes(session: ReadSession, organization: str, agent: str, thread: str) -> int:
    """What all checkpoints of a thread take, as they are stored."""
    stored = (checkpoints.c.body, checkpoints.c.projection, checkpoint_blobs.c.body, checkpoint_writes.c.body)
    return sum(_bytes_of(session, column, organization, agent, thread) for column in stored)


def _bytes_of(session: ReadSession, column: Column[bytes], organization: str, agent: str, thread: str) -> int:
    place = (column.table.c[name] for name in ("organization", "agent", "thread"))
    mine = (one == value for one, value in zip(place, (organization, agent, thread), strict=True))
    return int(session.execute(select(func.coalesce(func.sum(func.length(column)), 0)).where(*mine)).scalar_one())


def members(row: RowMapping) -> dict[str, object]:
    """Members of `SessionView`."""
    return {"session": row["id"], **{name: row[name] for name in ("agent", "runs", "created_at", "updated_at")}}
