"""Deployments in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, insert, select

from control_api.deployments.schemas import DeploymentView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agents, builds, deployments, traffic, versions
from control_api.versions.repository import same_version
from domain.deployment import BuildState, DeploymentState
from orchestrator_runtime.contract.ids import uuid7

OPEN = (DeploymentState.BUILDING, DeploymentState.STARTING)
NEWEST = (deployments.c.created_at.desc(), deployments.c.id.desc())


def create(session: WriteSession, organization: str, agent: str, *, digest: str, now: datetime) -> str:
    """A deployment and its build; returns the deployment's id."""
    deployment, build = uuid7(), uuid7()
    common = {"organization": organization, "agent": agent, "version": digest, "created_at": now}
    session.execute(insert(builds).values(id=build, state=BuildState.PENDING, **common))
    session.execute(insert(deployments).values(id=deployment, build=build, state=DeploymentState.BUILDING, **common))
    return deployment


def find(session: ReadSession, organization: str, deployment: str, *, address: str) -> DeploymentView | None:
    row = session.execute(_all(organization).where(deployments.c.id == deployment)).first()
    return _view(row, address) if row else None


def newest(session: ReadSession, organization: str, agent: str) -> tuple[str, str, DeploymentState] | None:
    """Id, version and state of the agent's last deployment."""
    query = select(deployments.c.id, deployments.c.version, deployments.c.state).where(
        deployments.c.organization == organization, deployments.c.agent == agent
    )
    row = session.execute(query.order_by(*NEWEST).limit(1)).first()
    return (row.id, row.version, DeploymentState(row.state)) if row else None


def serving(session: ReadSession, organization: str, agent: str, digest: str) -> str | None:
    """The newest deployment of this version whose revision gets calls of the agent."""
    query = (
        select(deployments.c.id)
        .join(traffic, traffic.c.revision == deployments.c.revision)
        .where(traffic.c.organization == organization, traffic.c.agent == agent, traffic.c.percent > 0)
        .where(deployments.c.organization == organization, deployments.c.agent == agent)
        .where(deployments.c.version == digest)
    )
    return session.execute(query.order_by(*NEWEST).limit(1)).scalar_one_or_none()


def is_split(session: ReadSession, organization: str, agent: str) -> bool:
    """Whether somebody has divided the agent's calls between revisions."""
    query = select(traffic.c.revision).where(
        traffic.c.organization == organization, traffic.c.agent == agent, traffic.c.percent > 0
    )
    return len(session.execute(query.limit(2)).all()) > 1


def log(session: ReadSession, deployment: str) -> str:
    """What its build has said so far."""
    query = select(builds.c.log).join(deployments, deployments.c.build == builds.c.id)
    text: str = session.execute(query.where(deployments.c.id == deployment)).scalar_one()
    return text


def page(
    session: ReadSession, organization: str, *, agent: str | None, after: str | None, limit: int, address: str
) -> list[DeploymentView]:
    """Newest first; `after` is the id of the last one before."""
    query = _all(organization).order_by(deployments.c.id.desc()).limit(limit)
    if agent is not None:
        query = query.where(agents.c.name == agent)
    if after is not None:
        query = query.where(deployments.c.id < after)
    return [_view(row, address) for row in session.execute(query)]


def _all(organization: str) -> Select[Any]:
    columns = [column for column in deployments.c if column.name != "agent"]
    return (
        select(*columns, agents.c.name.label("agent"), versions.c.label)
        .join(agents, deployments.c.agent == agents.c.id)
        .join(versions, same_version(deployments))
        .where(deployments.c.organization == organization)
    )


def _view(row: Row[Any], address: str) -> DeploymentView:
    return DeploymentView(
        id=row.id,
        agent=row.agent,
        digest=row.version,
        version=row.label,
        revision=row.revision,
        build=row.build,
        state=DeploymentState(row.state),
        problem=row.problem,
        created_at=row.created_at,
        url=f"{address}/agents/{row.agent}",
    )
