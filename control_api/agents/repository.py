"""Agents in the database, with everything that is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select, update

from control_api.agents import rows
from control_api.deployments import repository as deployments_of
from control_api.grants import repository as grants
from control_api.organizations import principals
from control_api.organizations.principals import PrincipalView
from control_api.reconciler.moves import move_revision
from control_api.reconciler.steps import fail
from control_api.revisions import repository as revisions_of
from control_api.revisions.repository import StoredRevision
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agents, deployments, revisions, traffic, versions
from domain.deployment import DeploymentState, RevisionState, TrafficTarget
from orchestrator_runtime.contract.errors import Conflict

SHOWN = agents.c.deleted_at.is_(None) & exists().where(
    deployments.c.organization == agents.c.organization, deployments.c.agent == agents.c.id
)
"""An agent is there once somebody wants it to serve something; an upload alone makes none."""


@dataclass(frozen=True, slots=True)
class StoredAgent:
    """`version` and `manifest` are of what serves or, while nothing does, of what is being deployed."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    traffic: Sequence[TrafficTarget]
    revisions: Sequence[StoredRevision]  # newest first, without retired ones
    last_state: DeploymentState
    digest: str
    manifest: dict[str, Any]
    owner: PrincipalView | None

    @property
    def serves(self) -> bool:
        return any(target.percent for target in self.traffic)


def find(session: ReadSession, organization: str, name: str) -> StoredAgent | None:
    query = select(agents).where(SHOWN, agents.c.organization == organization, agents.c.name == name)
    row = session.execute(query).first()
    return _load(session, organization, [row])[0] if row else None


def page(session: ReadSession, organization: str, *, after: str | None, limit: int) -> list[StoredAgent]:
    """By name."""
    query = select(agents).where(SHOWN, agents.c.organization == organization).order_by(agents.c.name).limit(limit)
    if after is not None:
        query = query.where(agents.c.name > after)
    return _load(session, organization, session.execute(query).all())


def remove(session: WriteSession, organization: str, name: str, *, now: datetime) -> None:
    """Nothing of the agent gets calls any more; its runs, versions and revisions stay on record.

    Raises `NotFound` (`agent_unknown`).
    """
    agent = rows.require(session, organization, name)
    deleted = Conflict(f"The agent {name} was deleted", code="agent_deleted", hint="Deploy it again to have it back.")
    open_ones = select(deployments.c.id).where(
        deployments.c.organization == organization,
        deployments.c.agent == agent,
        deployments.c.state.in_(deployments_of.OPEN),
    )
    for deployment in session.execute(open_ones).scalars().all():
        fail(session, deployment, deleted.document(), now)
    ended = select(revisions.c.name).where(
        revisions.c.organization == organization,
        revisions.c.agent == agent,
        revisions.c.state != RevisionState.RETIRED,
    )
    for revision in session.execute(ended).scalars().all():
        move_revision(session, organization, revision, RevisionState.RETIRED)
    grants.remove(session, organization, agent, None)
    session.execute(delete(traffic).where(traffic.c.organization == organization, traffic.c.agent == agent))
    session.execute(update(agents).where(agents.c.id == agent).values(deleted_at=now, updated_at=now))


def _load(session: ReadSession, organization: str, found: Sequence[Any]) -> list[StoredAgent]:
    ids = [row.id for row in found]
    split = revisions_of.traffic_of(session, organization, ids)
    current: dict[str, list[StoredRevision]] = {row.name: [] for row in found}
    for revision in revisions_of.current(session, organization, ids):
        current[revision.agent].append(revision)
    owners = principals.views(session, organization, [row.owner for row in found])
    loaded = []
    for row in found:
        last = deployments_of.newest(session, organization, row.id)
        assert last is not None, "an agent without a deployment is not shown"
        digest = _serving(split[row.id], current[row.name]) or last[1]
        manifest = select(versions.c.manifest).where(
            versions.c.organization == organization, versions.c.agent == row.id, versions.c.digest == digest
        )
        loaded.append(
            StoredAgent(
                id=row.id,
                name=row.name,
                created_at=row.created_at,
                updated_at=row.updated_at,
                traffic=split[row.id],
                revisions=current[row.name],
                last_state=last[2],
                digest=digest,
                manifest=session.execute(manifest).scalar_one(),
                owner=owners.get(row.owner),
            )
        )
    return loaded


def _serving(split: Sequence[TrafficTarget], found: Sequence[StoredRevision]) -> str | None:
    """The version that most calls get; of equal shares the newest."""
    digests = {revision.name: revision.digest for revision in found}
    serving = sorted((target.percent, target.revision) for target in split if target.percent)
    return digests.get(serving[-1][1]) if serving else None
