"""What the platform is to serve for the agents of one name, read from the database.

Also revisions of an agent of this name that was deleted, while runs are open that started on them: they get no new
calls, but what was accepted ends where it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, text

from control_api.deployments.repository import newest
from control_api.reconciler.plan import RevisionRecord
from control_api.reconciler.steps import Name
from control_api.revisions.repository import traffic_of
from control_api.store.database import ReadSession
from control_api.store.tables import ASLEEP, LEASED, OPEN, agents, revisions, runs, versions
from control_api.versions.repository import same_version
from domain.deployment import Environment, Revision, RevisionState, TrafficTarget
from domain.home import Home
from domain.manifest import Manifest

SERVABLE = (RevisionState.DEPLOYING, RevisionState.READY)


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything that decides what is served. `open_runs`: revision to the oldest of its runs that have not ended."""

    is_there: bool  # the agent exists, also while none of its revisions is ready
    revisions: Mapping[str, Any]  # rows by name, oldest first
    traffic: Sequence[TrafficTarget]
    open_runs: Mapping[str, str]

    @property
    def records(self) -> list[RevisionRecord]:
        return [RevisionRecord(row.name, row.number, RevisionState(row.state)) for row in self.revisions.values()]


def names(session: ReadSession) -> list[Name]:
    """Every agent that may have something to serve or to finish."""
    alive = select(agents.c.organization, agents.c.name).where(agents.c.deleted_at.is_(None))
    working = (select(runs.c.organization, runs.c.agent).where(text(condition)) for condition in (LEASED, ASLEEP))
    return [(row[0], row[1]) for row in session.execute(alive.union(*working))]


def load(session: ReadSession, name: Name) -> Stored:
    organization, agent = name
    open_runs = _open_runs(session, name)
    named = select(agents.c.id, agents.c.deleted_at).where(
        agents.c.organization == organization, agents.c.name == agent
    )
    found = session.execute(named).all()
    alive = next((row.id for row in found if row.deleted_at is None), None)
    query = (
        select(revisions, versions.c.manifest, versions.c.source)
        .join(versions, same_version(revisions))
        .where(revisions.c.organization == organization, revisions.c.agent.in_([row.id for row in found]))
        .where(or_(revisions.c.state.in_(SERVABLE), revisions.c.name.in_(list(open_runs))))
        .order_by(revisions.c.number)
    )
    return Stored(
        is_there=alive is not None and newest(session, organization, alive) is not None,
        revisions={row.name: row for row in session.execute(query)},
        traffic=traffic_of(session, organization, [alive])[alive] if alive else [],
        open_runs=open_runs,
    )


def all_open(session: ReadSession, organization: str, wanted: Sequence[str]) -> bool:
    """Whether none of these runs has ended."""
    query = select(func.count()).where(runs.c.organization == organization, runs.c.id.in_(wanted), text(OPEN))
    return session.execute(query).scalar_one() == len(wanted)


def revision(row: Any, name: Name, manifest: Manifest, home: Home) -> Revision:
    """A stored revision as the platform gets it."""
    organization, agent = name
    folder = home.environments(organization) / row.environment
    return Revision(
        name=row.name,
        organization=organization,
        agent=agent,
        version=row.version,
        manifest=manifest,
        environment=Environment(row.environment, str(folder), str(folder / "bin" / "python")),
        source=str(home.sources(organization) / row.source),
    )


def _open_runs(session: ReadSession, name: Name) -> dict[str, str]:
    """Read through the two indexes that hold open runs only; the condition is written as they have it."""
    found: dict[str, str] = {}
    for condition in (LEASED, ASLEEP):
        query = select(runs.c.revision, func.min(runs.c.id)).where(text(condition), _belongs(name))
        for revision_name, run in session.execute(query.group_by(runs.c.revision)):
            found[revision_name] = min(run, found.get(revision_name, run))
    return found


def _belongs(name: Name) -> ColumnElement[bool]:
    """Joined, so that no index of an agent's runs fits: that one holds all that ever were."""
    return runs.c.organization + "/" + runs.c.agent == "/".join(name)
