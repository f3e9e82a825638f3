"""Reads what instances wrote: of one revision, of all of an agent's that still matter, or of one run."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from control_api.agents import rows
from control_api.changes import Changes, agent_topic, any_set, run_topic
from control_api.journal.reading import run_unknown
from control_api.logs.merging import Following, in_order
from control_api.revisions import repository as revisions_of
from control_api.runs import repository as runs_of
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

        Raises `NotFound` (`agent_unknown`, `revision_unknown`).
        """

        def load(session: ReadSession) -> list[str]:
            identity = rows.require(session, organization, agent)
            if revision is None:
                current = revisions_of.current(session, organization, [identity])[:NEWEST]
                return [one.name for one in reversed(current)]
            if revisions_of.find(session, organization, identity, revision) is None:
                raise NotFound(
                    f"{agent} has no revision {revision}",
                    code="revision_unknown",
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

    async def check_run(self, organization: str, run: str) -> None:
        """Raises `NotFound` (`run_unknown`)."""
        await self._run(organization, run)

    async def read_run(self, organization: str, run: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        """What was written while working on the run, without the first `after` lines. Raises as `check_run` does."""
        revision, _ = await self._run(organization, run)
        number = 0
        async for line in self._platform.logs(organization, revision, follow=False):
            if _is_of(line, run):
                number += 1
                if number > after:
                    yield line

    async def follow_run(self, organization: str, run: str) -> AsyncGenerator[bytes]:
        """Every line there is of the run, then more as they come, until it has ended. Raises as `check_run` does."""
        revision, over = await self._run(organization, run)
        following, given = Following(), 0
        following.add(revision, self._platform.logs(organization, revision, follow=True))
        try:
            with self._changes.watch(run_topic(run)) as changed:
                changed.set()
                while not over:
                    if changed.is_set():
                        changed.clear()
                        _, over = await self._run(organization, run)
                    for line in following.take():
                        if _is_of(line, run):
                            given += 1
                            yield line
                    if not over:
                        await any_set(following.grew, changed)
        finally:
            await following.close()
        async for line in self.read_run(organization, run, after=given):
            yield line

    async def _run(self, organization: str, run: str) -> tuple[str, bool]:
        """The run's revision, and whether it has ended."""

        def load(session: ReadSession) -> tuple[str, bool]:
            row = runs_of.find(session, organization, run)
            if row is None:
                raise run_unknown(run)
            return row["revision"], row["ended_at"] is not None

        return await self._database.read(load)


def _is_of(line: bytes, run: str) -> bool:
    if run.encode() not in line:
        return False
    try:
        return bool(json.loads(line).get("run") == run)
    except (ValueError, AttributeError):  # cut short by a crash
        return False
