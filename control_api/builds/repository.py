"""Builds in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Select, select

from control_api.builds.schemas import BuildView
from control_api.store.database import ReadSession
from control_api.store.tables import agents, builds
from domain.deployment import BuildState


def find(session: ReadSession, organization: str, build: str) -> BuildView | None:
    row = session.execute(_all(organization).where(builds.c.id == build)).first()
    return _view(row) if row else None


def log(session: ReadSession, organization: str, build: str) -> str | None:
    query = select(builds.c.log).where(builds.c.organization == organization, builds.c.id == build)
    return session.execute(query).scalar_one_or_none()


def page(
    session: ReadSession, organization: str, *, agent: str | None, after: str | None, limit: int
) -> list[BuildView]:
    """Newest first; `after` is the id of the last one before."""
    query = _all(organization).order_by(builds.c.id.desc()).limit(limit)
    if agent is not None:
        query = query.where(agents.c.name == agent)
    if after is not None:
        query = query.where(builds.c.id < after)
    return [_view(row) for row in session.execute(query)]


def _all(organization: str) -> Select[Any]:
    columns = [column for column in builds.c if column.name not in {"log", "agent"}]
    return (
        select(*columns, agents.c.name.label("agent"))
        .join(agents, builds.c.agent == agents.c.id)
        .where(builds.c.organization == organization)
    )


def _view(row: Row[Any]) -> BuildView:
    return BuildView(
        id=row.id,
        agent=row.agent,
        digest=row.version,
        state=BuildState(row.state),
        environment=row.environment,
        problem=row.problem,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
