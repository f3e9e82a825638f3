"""What each action of the plan changes in the database: one function, one transaction.

Every function may be repeated after a crash, and does nothing for a deployment that has ended in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from control_api.agents import rows as agent_rows
from control_api.reconciler.moves import move_build, move_deployment, move_revision
from control_api.reconciler.plan import Situation, traffic_after
from control_api.revisions.repository import traffic_of
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agents, builds, deployments, revisions, traffic, versions
from control_api.versions.repository import same_version
from domain.deployment import BuildState, DeploymentState, RevisionState, RevisionStatus, TrafficTarget
from orchestrator_runtime.contract.errors import Conflict

Name = tuple[str, str]
"""(organization, name of the agent)."""

OPEN = (DeploymentState.BUILDING, DeploymentState.STARTING)
RESTARTED = "The server was restarted; the build starts again\n"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A deployment that has not ended. `agent` is the agent's id."""

    id: str
    organization: str
    agent: str
    version: str
    framework: str
    source: str
    state: DeploymentState
    build: str
    build_state: BuildState
    build_problem: dict[str, Any] | None
    environment: str | None
    revision: str | None
    revision_state: RevisionState | None

    def situation(self, probe: RevisionStatus | None) -> Situation:
        """`probe`: what the last probe of its revision said. A revision that is ready already needs none."""
        if self.revision is not None and self.revision_state is RevisionState.READY:
            probe = RevisionStatus(self.revision, RevisionState.READY)
        return Situation(
            state=self.state,
            has_environment=self.environment is not None,
            build_problem=self.build_problem if self.build_state is BuildState.FAILED else None,
            probe=probe,
        )


def unfinished(session: ReadSession, name: Name) -> list[Unfinished]:
    """The agent's deployments that have not ended, oldest first."""
    organization, agent = name
    same_agent = (deployments.c.organization == agents.c.organization) & (deployments.c.agent == agents.c.id)
    same_revision = (revisions.c.organization == deployments.c.organization) & (
        revisions.c.name == deployments.c.revision
    )
    query = (
        select(
            deployments,
            versions.c.framework,
            versions.c.source,
            builds.c.state.label("build_state"),
            builds.c.problem.label("build_problem"),
            builds.c.environment,
            revisions.c.state.label("revision_state"),
        )
        .join(agents, same_agent)
        .join(versions, same_version(deployments))
        .join(builds, deployments.c.build == builds.c.id)
        .outerjoin(revisions, same_revision)
        .where(agents.c.organization == organization, agents.c.name == agent, agents.c.deleted_at.is_(None))
        .where(deployments.c.state.in_(OPEN))
        .order_by(deployments.c.created_at, deployments.c.id)
    )
    return [
        Unfinished(
            id=row.id,
            organization=organization,
            agent=row.agent,
            version=row.version,
            framework=row.framework,
            source=row.source,
            state=DeploymentState(row.state),
            build=row.build,
            build_state=BuildState(row.build_state),
            build_problem=row.build_problem,
            environment=row.environment,
            revision=row.revision,
            revision_state=RevisionState(row.revision_state) if row.revision_state else None,
        )
        for row in session.execute(query)
    ]


def restart_builds(session: WriteSession) -> None:
    """Builds that ran when the server ended are done again."""
    running = session.execute(select(builds.c.id).where(builds.c.state == BuildState.RUNNING)).scalars().all()
    for build in running:
        move_build(session, build, BuildState.PENDING, log=builds.c.log + RESTARTED)


def start_build(session: WriteSession, deployment: Unfinished, now: datetime) -> None:
    if deployment.build_state is BuildState.PENDING and is_open(session, deployment.id):
        move_build(session, deployment.build, BuildState.RUNNING, started_at=now)


def append_log(session: WriteSession, build: str, text: str) -> None:
    session.execute(update(builds).where(builds.c.id == build).values(log=builds.c.log + text))


def finish_build(session: WriteSession, deployment: Unfinished, environment: str, now: datetime) -> None:
    """The build made or found this environment."""
    if not is_open(session, deployment.id):
        return
    move_build(session, deployment.build, BuildState.SUCCEEDED, environment=environment, ended_at=now)
    version = (
        versions.c.organization == deployment.organization,
        versions.c.agent == deployment.agent,
        versions.c.digest == deployment.version,
    )
    session.execute(update(versions).where(*version).values(lock=environment))


def break_build(session: WriteSession, deployment: Unfinished, problem: Mapping[str, Any], now: datetime) -> None:
    """The build ended without an environment."""
    if is_open(session, deployment.id):
        move_build(session, deployment.build, BuildState.FAILED, problem=dict(problem), ended_at=now)


def create_revision(session: WriteSession, deployment: Unfinished, name: str, now: datetime) -> None:
    """The next number of the agent's name: also one that was deleted and made again repeats none."""
    if not is_open(session, deployment.id):
        return
    own = (agents.c.organization == deployment.organization) & (agents.c.name == name)
    last = session.execute(
        select(func.max(revisions.c.number)).join(agents, revisions.c.agent == agents.c.id).where(own)
    ).scalar()
    number = (last or 0) + 1
    revision = f"{name}-{number:05d}"
    session.execute(
        insert(revisions).values(
            organization=deployment.organization,
            name=revision,
            agent=deployment.agent,
            number=number,
            version=deployment.version,
            environment=deployment.environment,
            state=RevisionState.DEPLOYING,
            created_at=now,
        )
    )
    move_deployment(session, deployment.id, DeploymentState.STARTING, revision=revision)


def activate(session: WriteSession, deployment: Unfinished, now: datetime) -> None:
    """The revision is ready and gets its share of the calls. The deployment ends only when the platform knows it."""
    if not is_open(session, deployment.id) or deployment.revision is None:
        return
    if deployment.revision_state is not RevisionState.DEPLOYING:
        return  # a crash came after this step; its traffic may have been changed by a person since
    move_revision(session, deployment.organization, deployment.revision, RevisionState.READY)
    before = traffic_of(session, deployment.organization, [deployment.agent])[deployment.agent]
    set_traffic(session, deployment.organization, deployment.agent, traffic_after(before, deployment.revision), now=now)


def finish(session: WriteSession, deployment: Unfinished, now: datetime) -> None:
    if is_open(session, deployment.id):
        move_deployment(session, deployment.id, DeploymentState.READY, ended_at=now)


def fail(session: WriteSession, deployment: str, problem: Mapping[str, Any], now: datetime) -> None:
    """End a deployment with everything of it that has not ended."""
    row = session.execute(select(deployments).where(deployments.c.id == deployment)).one()
    if row.state not in OPEN:
        return
    ended = {"problem": dict(problem), "ended_at": now}
    build_state = session.execute(select(builds.c.state).where(builds.c.id == row.build)).scalar_one()
    if build_state in {BuildState.PENDING, BuildState.RUNNING}:
        move_build(session, row.build, BuildState.FAILED, **ended)
    own = (revisions.c.organization == row.organization) & (revisions.c.name == row.revision)
    revision_state = session.execute(select(revisions.c.state).where(own)).scalar_one_or_none()
    if revision_state == RevisionState.DEPLOYING:
        move_revision(session, row.organization, row.revision, RevisionState.FAILED, problem=dict(problem))
    move_deployment(session, deployment, DeploymentState.FAILED, **ended)


def supersede(session: WriteSession, older: Sequence[Unfinished], now: datetime) -> None:
    problem = Conflict(
        "A newer deployment of this agent came before this one was done",
        code="superseded",
        hint="Nothing is to be done: the newer one goes on.",
    )
    for deployment in older:
        fail(session, deployment.id, problem.document(), now)


def retire(session: WriteSession, organization: str, names: Sequence[str]) -> None:
    for name in names:
        move_revision(session, organization, name, RevisionState.RETIRED)


def set_traffic(
    session: WriteSession, organization: str, agent: str, targets: Sequence[TrafficTarget], *, now: datetime
) -> None:
    """Replace how the agent's calls are split."""
    session.execute(delete(traffic).where(traffic.c.organization == organization, traffic.c.agent == agent))
    rows = [
        {
            "organization": organization,
            "agent": agent,
            "position": position,
            "revision": target.revision,
            "percent": target.percent,
            "tag": target.tag,
        }
        for position, target in enumerate(targets)
    ]
    if rows:
        session.execute(insert(traffic), rows)
    agent_rows.touch(session, agent, now=now)


def is_open(session: ReadSession, deployment: str) -> bool:
    state = session.execute(select(deployments.c.state).where(deployments.c.id == deployment)).scalar_one()
    return state in OPEN
