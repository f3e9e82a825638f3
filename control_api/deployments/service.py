"""Takes wishes for an agent to serve a version. Whether there is anything to do is decided here, in one transaction;
the reconciler does it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from control_api.agents import rows as agents
from control_api.authorization import Credential, require_write
from control_api.changes import Changes, agent_topic, deployment_topic
from control_api.deployments import repository
from control_api.deployments.history import FINAL, history
from control_api.deployments.schemas import DeploymentView
from control_api.paging import Page, page_of
from control_api.reconciler.reconciler import Reconciler
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.streaming import ServerEvent
from control_api.versions import repository as versions
from control_api.versions.service import unknown as version_unknown
from domain.clock import Clock
from domain.deployment import DeploymentState
from orchestrator_runtime.contract.errors import NotFound


class DeploymentsService:
    """`address`: the URL of the gateway, below which agents are called."""

    def __init__(
        self, *, database: Database, clock: Clock, reconciler: Reconciler, changes: Changes, address: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._reconciler = reconciler
        self._changes = changes
        self._address = address

    async def deploy(self, caller: Credential, digest: str) -> DeploymentView:
        """Let the version's agent serve it. `unchanged` if it does already; the same again while it is under way.

        Raises `NotFound` (`version_unknown`) or `Forbidden` (`permission_missing`).
        """
        organization = caller.organization
        known = await self._database.read(lambda session: self._known(session, caller, digest))
        if known is not None:
            return known
        made, new = await self._database.write(lambda session: self._create(session, caller, digest))
        if new:
            self._reconciler.wake(organization, made.agent)
            self._changes.publish(agent_topic(organization, made.agent))
        return made

    async def get(self, organization: str, deployment: str) -> DeploymentView:
        """Raises `NotFound` (`deployment_unknown`)."""
        return await self._database.read(lambda session: self._get(session, organization, deployment))

    async def page(
        self, organization: str, *, agent: str | None, after: str | None, limit: int
    ) -> Page[DeploymentView]:
        rows = await self._database.read(
            lambda session: repository.page(
                session, organization, agent=agent, after=after, limit=limit + 1, address=self._address
            )
        )
        return page_of(rows, limit=limit, key=lambda deployment: (deployment.id,))

    async def events(self, organization: str, deployment: str, *, after: int) -> AsyncGenerator[ServerEvent]:
        """What happens to the deployment, from event `after` + 1 on; ends when it is ready or has failed."""

        def load(session: ReadSession) -> tuple[DeploymentView, str]:
            return self._get(session, organization, deployment), repository.log(session, deployment)

        with self._changes.watch(deployment_topic(deployment)) as changed:
            while True:
                changed.clear()
                view, log = await self._database.read(load)
                events = history(view, log)
                for event in events[after:]:
                    yield event
                after = max(after, len(events))
                if view.state in FINAL:
                    return
                await changed.wait()

    def _known(self, session: ReadSession, caller: Credential, digest: str) -> DeploymentView | None:
        """The deployment that makes another one needless: it is under way, or what it made still serves."""
        organization = caller.organization
        version = versions.find(session, organization, digest)
        if version is None:
            raise version_unknown(digest)
        agent = agents.ownership(session, organization, version.agent)
        require_write(caller, agent)
        last = repository.newest(session, organization, agent.id)
        if last is None:
            return None
        identity, last_digest, state = last
        if state in repository.OPEN:
            return self._get(session, organization, identity) if last_digest == digest else None
        done = repository.serving(session, organization, agent.id, digest)
        if done is None and last_digest == digest and state is DeploymentState.READY:
            # In a split that somebody has set, a new revision waits for its share; another one would be no better.
            done = identity if repository.is_split(session, organization, agent.id) else None
        return self._get(session, organization, done).model_copy(update={"unchanged": True}) if done else None

    def _create(self, session: WriteSession, caller: Credential, digest: str) -> tuple[DeploymentView, bool]:
        organization = caller.organization
        known = self._known(session, caller, digest)  # another request may have been faster
        if known is not None:
            return known, False
        version = versions.find(session, organization, digest)
        assert version is not None
        agent = agents.require(session, organization, version.agent)
        made = repository.create(session, organization, agent, digest=digest, now=self._clock.now())
        return self._get(session, organization, made), True

    def _get(self, session: ReadSession, organization: str, deployment: str) -> DeploymentView:
        found = repository.find(session, organization, deployment, address=self._address)
        if found is None:
            raise NotFound(
                f"There is no deployment {deployment}",
                code="deployment_unknown",
                hint="GET /api/v1/deployments lists them.",
            )
        return found
