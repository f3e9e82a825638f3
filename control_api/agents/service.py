"""Shows agents, splits their calls, and ends them. What is decided here is made true by the reconciler."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from control_api.agents import repository, routing, rows
from control_api.agents.repository import StoredAgent
from control_api.agents.schemas import AgentState, AgentView, TrafficTargetBody
from control_api.changes import Changes, agent_topic
from control_api.organizations.directory import Directory
from control_api.paging import Page, page_of
from control_api.reconciler.reconciler import Reconciler
from control_api.revisions.views import Observed, observe, revision_views
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.streaming import ServerEvent
from domain.clock import Clock
from domain.deployment import DeploymentState
from domain.ports import Platform

NOT_SERVING: Mapping[DeploymentState, AgentState] = {
    DeploymentState.BUILDING: "building",
    DeploymentState.STARTING: "starting",
    DeploymentState.READY: "starting",  # its calls go to it in the next moment
    DeploymentState.FAILED: "failed",
}


class AgentsService:
    """`address`: the URL of the gateway, below which agents are called."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        platform: Platform,
        reconciler: Reconciler,
        changes: Changes,
        address: str,
        directory: Directory,
    ) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock
        self._platform = platform
        self._reconciler = reconciler
        self._changes = changes
        self._address = address

    async def page(self, organization: str, *, after: str | None, limit: int) -> Page[AgentView]:
        stored = await self._database.read(
            lambda session: repository.page(session, organization, after=after, limit=limit + 1)
        )
        views = [await self._view(organization, agent) for agent in stored]
        return page_of(views, limit=limit, key=lambda agent: (agent.name,))

    async def get(self, organization: str, name: str) -> AgentView:
        """Raises `NotFound` (`agent_unknown`)."""
        found = await self._find(organization, name)
        if found is None:
            raise rows.unknown(name)
        return found

    async def split(self, organization: str, name: str, targets: Sequence[TrafficTargetBody]) -> AgentView:
        """See `routing.split`."""
        now = self._clock.now()
        await self._change(
            organization, name, lambda session: routing.split(session, organization, name, targets, now=now)
        )
        return await self.get(organization, name)

    async def roll_back(self, organization: str, name: str, revision: str | None) -> AgentView:
        """See `routing.roll_back`."""
        now = self._clock.now()
        await self._change(
            organization, name, lambda session: routing.roll_back(session, organization, name, revision, now=now)
        )
        return await self.get(organization, name)

    async def remove(self, organization: str, name: str) -> None:
        """The agent gets no calls any more. Open runs end where they began: their revisions stay until then.

        Raises `NotFound` (`agent_unknown`).
        """
        now = self._clock.now()
        await self._directory.change_in(
            organization, lambda session: repository.remove(session, organization, name, now=now)
        )
        self._tell(organization, name)

    async def events(self, organization: str, name: str, *, last: str | None) -> AsyncGenerator[ServerEvent]:
        """The agent as it is, then again whenever that has changed; `deleted` is the last event.

        An event's id stands for its content: who names the last one seen gets nothing before there is something new.
        """
        with self._changes.watch(agent_topic(organization, name)) as changed:
            while True:
                changed.clear()
                view = await self._find(organization, name)
                if view is None:
                    yield ServerEvent("deleted", {"name": name})
                    return
                data = view.model_dump(mode="json")
                identity = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
                if identity != last:
                    last = identity
                    yield ServerEvent("agent", data, identity)
                await changed.wait()

    async def _change(self, organization: str, name: str, work: Callable[[WriteSession], None]) -> None:
        await self._database.write(work)
        self._tell(organization, name)

    def _tell(self, organization: str, name: str) -> None:
        self._reconciler.wake(organization, name)
        self._changes.publish(agent_topic(organization, name))

    async def _find(self, organization: str, name: str) -> AgentView | None:
        def load(session: ReadSession) -> StoredAgent | None:
            return repository.find(session, organization, name)

        stored = await self._database.read(load)
        return await self._view(organization, stored) if stored else None

    async def _view(self, organization: str, agent: StoredAgent) -> AgentView:
        observed = await observe(self._platform, organization, agent.name)
        scale = agent.manifest["scale"]
        return AgentView(
            id=agent.id,
            name=agent.name,
            owner=agent.owner,
            version=agent.manifest["version"] if agent.serves else None,
            digest=agent.digest if agent.serves else None,
            framework=agent.manifest["framework"],
            url=f"{self._address}/agents/{agent.name}",
            state=_state(agent, observed),
            access=agent.manifest["access"],
            scale=scale,
            traffic=[
                TrafficTargetBody(revision=target.revision, percent=target.percent, tag=target.tag)
                for target in agent.traffic
            ],
            revisions=revision_views(agent.revisions, agent.traffic, observed),
            instances=list(observed.instances),
            created_at=agent.created_at,
            updated_at=agent.updated_at,
        )


def _state(agent: StoredAgent, observed: Observed) -> AgentState:
    if agent.serves:
        return "ready" if observed.ready_instances else "idle"
    return NOT_SERVING[agent.last_state]
