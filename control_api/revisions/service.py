"""Shows revisions. They are made by the reconciler, and get calls by the agent's traffic."""

from __future__ import annotations

from control_api.agents import rows as agents
from control_api.paging import Page, page_of
from control_api.revisions import repository
from control_api.revisions.repository import StoredRevision
from control_api.revisions.schemas import RevisionView
from control_api.revisions.views import observe, revision_views
from control_api.store.database import Database, ReadSession
from domain.deployment import TrafficTarget
from domain.ports import Platform
from orchestrator_runtime.contract.errors import NotFound


class RevisionsService:
    def __init__(self, *, database: Database, platform: Platform) -> None:
        self._database = database
        self._platform = platform

    async def page(self, organization: str, agent: str, *, after: str | None, limit: int) -> Page[RevisionView]:
        """Newest first, retired and failed ones included. Raises `NotFound` (`agent_unknown`)."""

        def load(session: ReadSession) -> tuple[list[StoredRevision], list[TrafficTarget]]:
            identity = agents.require(session, organization, agent)
            rows = repository.page(session, organization, identity, after=after, limit=limit + 1)
            return rows, repository.traffic_of(session, organization, [identity])[identity]

        stored, traffic = await self._database.read(load)
        views = revision_views(stored, traffic, await observe(self._platform, organization, agent))
        return page_of(views, limit=limit, key=lambda revision: (revision.name,))

    async def get(self, organization: str, agent: str, revision: str) -> RevisionView:
        """Raises `NotFound` (`agent_unknown`, `revision_unknown`)."""

        def load(session: ReadSession) -> tuple[StoredRevision | None, list[TrafficTarget]]:
            identity = agents.require(session, organization, agent)
            found = repository.find(session, organization, identity, revision)
            return found, repository.traffic_of(session, organization, [identity])[identity]

        stored, traffic = await self._database.read(load)
        if stored is None:
            raise NotFound(
                f"{agent} has no revision {revision}",
                code="revision_unknown",
                hint=f"`orchestrator describe {agent}` lists them.",
            )
        [view] = revision_views([stored], traffic, await observe(self._platform, organization, agent))
        return view
