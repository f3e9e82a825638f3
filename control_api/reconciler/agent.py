"""Brings one agent to what is desired, again and again: finishes its deployments and tells the platform what to serve.

One task per agent, so that everything that concerns an agent happens in order. A newer deployment takes the place of
an older one that is not done, also in the middle of its build or probe: who corrects a mistake does not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from control_api.changes import Changes, agent_topic, any_set, deployment_topic, run_topic
from control_api.reconciler import desired, steps
from control_api.reconciler.building import Building
from control_api.reconciler.plan import Action, Activate, Build, CreateRevision, Fail, Probe, next_action, served
from control_api.reconciler.steps import Name, Unfinished
from control_api.store.database import Database, WriteSession
from domain.clock import Clock
from domain.deployment import DesiredAgent, RevisionStatus
from domain.home import Home
from domain.manifest import Manifest
from domain.ports import Platform

logger = logging.getLogger("reconciler")

Outcome = TypeVar("Outcome")
PAUSE = 1.0  # seconds before another try after an error that nobody planned for, such as a full disk


@dataclass(frozen=True, slots=True)
class Tools:
    """What every agent's task works with. `kept`: ready revisions without traffic that stay for a rollback."""

    database: Database
    platform: Platform
    building: Building
    clock: Clock
    changes: Changes
    home: Home
    kept: int


class AgentReconciler:
    """`woken` is set by whoever has changed something of the agent."""

    def __init__(self, name: Name, woken: asyncio.Event, tools: Tools) -> None:
        self._name = name
        self._woken = woken
        self._tools = tools
        self._told: DesiredAgent | None = None
        self._manifests: dict[str, Manifest] = {}  # of versions; they never change

    async def restore(self) -> None:
        """Tell the platform what was served before a restart. What goes wrong, `run` tries again."""
        try:
            await self._serve()
        except Exception:  # the border of an agent: its trouble is not the others'
            logger.exception("agent %s cannot be served yet", self._name[1])

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                lingering = await self._settle()
                await self._rest(lingering)
            except Exception:  # the border of an agent: its trouble is not the others'
                logger.exception("agent %s cannot be brought to what is desired; trying again", self._name[1])
                await asyncio.sleep(PAUSE)

    async def _settle(self) -> Sequence[str]:
        """Finish what is unfinished; returns the runs for which revisions are served that nothing else needs."""
        probed: tuple[str, RevisionStatus | None] = ("", None)
        while True:
            self._woken.clear()
            lingering = await self._serve()
            waiting = await self._unfinished()
            if not waiting:
                return lingering
            *older, deployment = waiting
            if older:
                await self._supersede(older)
            probe = probed[1] if probed[0] == deployment.id else None
            action = next_action(deployment.situation(probe))
            assert action is not None, "a deployment that has not ended has a next action"
            logger.info("deployment %s of %s: %s", deployment.id, self._name[1], type(action).__name__)
            probed = (deployment.id, await self._do(action, deployment))

    async def _supersede(self, older: Sequence[Unfinished]) -> None:
        now = self._tools.clock.now()
        await self._change(*older, work=lambda session: steps.supersede(session, older, now))

    async def _do(self, action: Action, deployment: Unfinished) -> RevisionStatus | None:
        """Do one step. Returns what a probe said."""
        tools, now = self._tools, self._tools.clock.now()
        match action:
            case Build():
                await self._unless_superseded(tools.building.build(deployment), deployment)
            case CreateRevision():
                agent = self._name[1]
                await self._change(
                    deployment, work=lambda session: steps.create_revision(session, deployment, agent, now)
                )
            case Probe():
                assert deployment.revision is not None
                probe = tools.platform.probe(deployment.organization, deployment.revision)
                return await self._unless_superseded(probe, deployment)
            case Activate():
                await self._change(deployment, work=lambda session: steps.activate(session, deployment, now))
                await self._serve()  # whoever hears that it is ready may call it at once
                await self._change(deployment, work=lambda session: steps.finish(session, deployment, now))
            case Fail(problem):
                await self._change(deployment, work=lambda session: steps.fail(session, deployment.id, problem, now))
        return None

    async def _unless_superseded(self, work: Coroutine[Any, Any, Outcome], deployment: Unfinished) -> Outcome | None:
        """The outcome of `work`; None, and it is cancelled, if the deployment is not the one to be done any more.

        What else changes meanwhile, such as traffic, is done at once.
        """
        doing = asyncio.create_task(work)
        done = asyncio.Event()
        doing.add_done_callback(lambda task: done.set())
        try:
            while True:
                await any_set(done, self._woken)
                if doing.done():
                    return doing.result()
                self._woken.clear()
                await self._serve()
                if [one.id for one in await self._unfinished()][-1:] != [deployment.id]:
                    return None
        finally:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)

    async def _serve(self) -> Sequence[str]:
        """Tell the platform what to serve; returns the runs as `_settle` does."""
        organization, agent = self._name
        tools = self._tools
        stored = await tools.database.read(lambda session: desired.load(session, self._name))
        open_runs = frozenset(stored.open_runs)
        keep, retired = served(stored.records, stored.traffic, with_open_runs=open_runs, kept=tools.kept)
        if retired:
            await tools.database.write(lambda session: steps.retire(session, organization, retired))
        rows = [stored.revisions[name] for name in keep]
        revisions = tuple(desired.revision(row, self._name, self._manifest(row), tools.home) for row in rows)
        wanted = DesiredAgent(organization, agent, revisions, tuple(stored.traffic))
        await self._tell(wanted if revisions or stored.is_there else None)
        needed, _ = served(stored.records, stored.traffic, with_open_runs=frozenset(), kept=tools.kept)
        return [stored.open_runs[name] for name in keep if name not in needed]

    async def _tell(self, wanted: DesiredAgent | None) -> None:
        """Tell the platform, unless it has been told; None: there is no such agent any more."""
        if wanted == self._told:
            return
        if wanted is not None:
            await self._tools.platform.deploy(wanted)
        else:
            await self._tools.platform.remove(*self._name)
        self._told = wanted
        self._tools.changes.publish(agent_topic(*self._name))

    async def _rest(self, lingering: Sequence[str]) -> None:
        """Until something has changed, or one of the runs has ended and its revision may leave the platform."""
        with self._tools.changes.watch(*map(run_topic, lingering)) as changed:
            while not self._woken.is_set():
                changed.clear()
                if not await self._all_open(lingering):
                    return
                await any_set(self._woken, changed)

    async def _all_open(self, runs: Sequence[str]) -> bool:
        organization = self._name[0]
        return not runs or await self._tools.database.read(
            lambda session: desired.all_open(session, organization, runs)
        )

    async def _unfinished(self) -> list[Unfinished]:
        return await self._tools.database.read(lambda session: steps.unfinished(session, self._name))

    async def _change(self, *deployments: Unfinished, work: Callable[[WriteSession], None]) -> None:
        """One transaction, and everyone who watches hears of it."""
        await self._tools.database.write(work)
        self._tools.changes.publish(agent_topic(*self._name), *(deployment_topic(one.id) for one in deployments))

    def _manifest(self, row: Any) -> Manifest:
        known = self._manifests.get(row.version)
        if known is None:
            known = self._manifests[row.version] = Manifest.model_validate(row.manifest)
        return known
