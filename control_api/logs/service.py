"""Reads what instances wrote: of one revision, or of all of an agent's that still matter."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from control_api.agents import rows
from control_api.changes import Changes, agent_topic, any_set
from control_api.logs.merging import Following, in_order
from control_api.revisions import repository as revisions_of
from control_api.store.database import Database, ReadSession
from domain.ports import Platform
from orchestrator_runtime.contract.errors import NotFound

NEWEST = 20  # revisions; older ones are read by name


class LogsService:
    def __init__(self, *, database: Database, platform: Platform, changes: Changes) -> None:
        self._database = database
        self._platform = platform
        self._changes = changes

    async def revisions(self, organization: str, agent: str, revision: str | None) -> list[str]:
        """The revisions whose logs are meant, oldest first.

        Raises `NotFound` (`agent_not_found`, `revision_not_found`).
        """

        def load(session: ReadSession) -> list[str]:
            identity = rows.require(session, organization, agent)
            if revision is None:
                current = revisions_of.current(session, organization, [identity])[:NEWEST]
                return [one.name for one in reversed(current)]
            if revisions_of.find(session, organization, identity, revision) is None:
                raise NotFound(
                    f"{agent} has no revision {revision}",
                    code="revision_not_found",
                    hint=f"`orchestrator describe {agent}` lists them.",
                )
            return [revision]

        return await self._database.read(load)

    async def read(self, organization: str, agent: str, revision: str | None) -> AsyncGenerator[bytes]:
        """Every line there is, oldest first. Raises as `revisions` does."""
        names = await self.revisions(organization, agent, revision)
        async for line in in_order(self._platform.logs(organization, name, follow=False) for name in names):
            yield line

    async def follow(self, organization: str, agent: str, revision: str | None) -> AsyncGenerator[bytes]:
        """Every line there is, then more as they come, also of revisions that come; until the agent is deleted."""
        following = Following()
        try:
            with self._changes.watch(agent_topic(organization, agent)) as changed:
                changed.set()
                while True:
                    if changed.is_set():
                        changed.clear()
                        try:
                            names = await self.revisions(organization, agent, revision)
                        except NotFound:  # deleted
                            return
                        for name in names:
                            if name not in following:
                                following.add(name, self._platform.logs(organization, name, follow=True))
                    for line in following.take():
                        yield line
                    await any_set(following.grew, changed)
        finally:
            await following.close()
