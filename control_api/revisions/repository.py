"""Revisions in the database, with what their agent's traffic gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from control_api.store.database import ReadSession
from control_api.store.tables import agents, revisions, traffic, versions
from control_api.versions.repository import same_version
from domain.deployment import RevisionState, TrafficTarget


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """What is stored of a revision. `agent` is the agent's name, `label` the version's semver."""

    name: str
    agent: str
    number: int
    digest: str
    label: str
    state: RevisionState
    problem: dict[str, Any] | None
    created_at: datetime


def page(session: ReadSession, organization: str, agent: str, *, after: str | None, limit: int) -> list[StoredRevision]:
    """Of one agent (its id), newest first; `after` is the name of the last one before."""
    query = _of(organization, [agent]).order_by(revisions.c.name.desc()).limit(limit)
    return _read(session, query.where(revisions.c.name < after) if after is not None else query)


def find(session: ReadSession, organization: str, agent: str, name: str) -> StoredRevision | None:
    found = _read(session, _of(organization, [agent]).where(revisions.c.name == name))
    return found[0] if found else None


def current(session: ReadSession, organization: str, ids: Sequence[str]) -> list[StoredRevision]:
    """All that are not retired, of these agents, newest first."""
    query = _of(organization, ids).where(revisions.c.state != RevisionState.RETIRED)
    return _read(session, query.order_by(revisions.c.number.desc()))


def traffic_of(session: ReadSession, organization: str, ids: Sequence[str]) -> dict[str, list[TrafficTarget]]:
    """Agent (id) to how its calls are split, in the order that was asked for."""
    split: dict[str, list[TrafficTarget]] = {agent: [] for agent in ids}
    query = select(traffic).where(traffic.c.organization == organization, traffic.c.agent.in_(ids))
    for row in session.execute(query.order_by(traffic.c.position)):
        split[row.agent].append(TrafficTarget(row.revision, row.percent, row.tag))
    return split


def _of(organization: str, ids: Sequence[str]) -> Select[Any]:
    return (
        select(
            revisions.c.name,
            agents.c.name.label("agent"),
            revisions.c.number,
            revisions.c.version.label("digest"),
            versions.c.label,
            revisions.c.state,
            revisions.c.problem,
            revisions.c.created_at,
        )
        .join(agents, revisions.c.agent == agents.c.id)
        .join(versions, same_version(revisions))
        .where(revisions.c.organization == organization, revisions.c.agent.in_(ids))
    )


def _read(session: ReadSession, query: Select[Any]) -> list[StoredRevision]:
    return [
        StoredRevision(
            name=row.name,
            agent=row.agent,
            number=row.number,
            digest=row.digest,
            label=row.label,
            state=RevisionState(row.state),
            problem=row.problem,
            created_at=row.created_at,
        )
        for row in session.execute(query)
    ]
