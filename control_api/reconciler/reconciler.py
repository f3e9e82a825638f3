"""Starts a task for every agent that has something to be done, and wakes it when something has changed.

Nothing is remembered here that the database does not know, so a restart continues where the last process ended.
"""

from __future__ import annotations

import asyncio

from control_api.changes import Changes
from control_api.reconciler import desired, steps
from control_api.reconciler.agent import AgentReconciler, Tools
from control_api.reconciler.building import Building
from control_api.reconciler.steps import Name
from control_api.secrets.service import SecretsService
from control_api.settings import Settings
from control_api.store.database import Database
from domain.clock import Clock
from domain.home import Home
from domain.ports import Builder, Platform


class Reconciler:
    def __init__(
        self,
        *,
        database: Database,
        platform: Platform,
        builder: Builder,
        clock: Clock,
        changes: Changes,
        home: Home,
        secrets: SecretsService,
        settings: Settings,
    ) -> None:
        building = Building(
            database=database, builder=builder, clock=clock, changes=changes, home=home, secrets=secrets
        )
        kept = settings.deployments.kept_revisions
        self._tools = Tools(database, platform, building, clock, changes, home, kept)
        self._database = database
        self._woken: dict[Name, asyncio.Event] = {}
        self._queue: asyncio.Queue[Name] = asyncio.Queue()
        self._restored = asyncio.Event()

    def wake(self, organization: str, agent: str) -> None:
        """Something of the agent has changed in the database. May be called before `run`."""
        self._queue.put_nowait((organization, agent))

    async def restored(self) -> None:
        """Wait until the platform has been told of every agent that there was at the start."""
        await self._restored.wait()

    async def run(self) -> None:
        """Serve every agent, finish what is unfinished, then do what `wake` asks for, until cancelled."""
        await self._database.write(steps.restart_builds)
        found = [self._agent(name) for name in await self._database.read(desired.names)]
        await asyncio.gather(*(agent.restore() for agent in found))
        self._restored.set()
        async with asyncio.TaskGroup() as tasks:
            for agent in found:
                tasks.create_task(agent.run())
            while True:
                name = await self._queue.get()
                if name not in self._woken:
                    tasks.create_task(self._agent(name).run())
                self._woken[name].set()

    def _agent(self, name: Name) -> AgentReconciler:
        woken = self._woken[name] = asyncio.Event()
        return AgentReconciler(name, woken, self._tools)
