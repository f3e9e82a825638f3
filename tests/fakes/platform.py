"""A platform in memory: remembers what it is told to serve, and fails the probes it is told to fail."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from domain.deployment import DesiredAgent, RevisionState, RevisionStatus


class FakePlatform:
    def __init__(self) -> None:
        self.desired: dict[tuple[str, str], DesiredAgent] = {}
        self.deployed: list[DesiredAgent] = []  # in order
        self.probed: list[str] = []
        self.failing: dict[str, dict[str, Any]] = {}  # revision or version digest -> the problem its probe ends with
        self.observed: dict[str, RevisionStatus] = {}  # revision -> what `describe` says of it
        self.living: list[dict[str, Any]] = []  # instances of all agents
        self.probing = asyncio.Event()  # set when a probe has begun
        self.hold = asyncio.Event()  # cleared, it keeps probes waiting
        self.hold.set()
        self.lines: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        self.log_grew = asyncio.Event()

    async def deploy(self, agent: DesiredAgent) -> None:
        self.desired[(agent.organization, agent.name)] = agent
        self.deployed.append(agent)

    async def probe(self, organization: str, revision: str) -> RevisionStatus:
        self.probed.append(revision)
        self.probing.set()
        await self.hold.wait()
        found = [
            one
            for agent in self.desired.values()
            for one in agent.revisions
            if (one.organization, one.name) == (organization, revision)
        ]
        if not found:
            problem = {"code": "revision_unknown", "status": 404, "title": "Not found", "detail": "No such revision"}
            return RevisionStatus(revision, RevisionState.FAILED, problem=problem)
        failed = self.failing.get(revision) or self.failing.get(found[0].version)
        if failed:
            return RevisionStatus(revision, RevisionState.FAILED, problem=failed)
        return RevisionStatus(revision, RevisionState.READY, ready_instances=1, desired_instances=1)

    async def describe(self, organization: str, agent: str) -> list[RevisionStatus]:
        desired = self.desired.get((organization, agent))
        return [
            self.observed.get(one.name, RevisionStatus(one.name, RevisionState.READY))
            for one in (desired.revisions if desired else ())
        ]

    async def list(self) -> list[tuple[str, str]]:
        return sorted(self.desired)

    async def remove(self, organization: str, agent: str) -> None:
        self.desired.pop((organization, agent), None)

    def instances(self, organization: str, agent: str) -> Sequence[dict[str, Any]]:
        return [one for one in self.living if one["revision"].rpartition("-")[0] == agent]

    async def logs(self, organization: str, revision: str, *, follow: bool) -> AsyncIterator[bytes]:
        position = 0
        lines = self.lines[(organization, revision)]
        while True:
            self.log_grew.clear()
            for line in lines[position:]:
                position += 1
                yield line
            if position < len(lines):
                continue
            if not follow:
                return
            await self.log_grew.wait()

    # for tests

    def write_log(self, organization: str, revision: str, **record: Any) -> None:
        self.lines[(organization, revision)].append(json.dumps(record).encode() + b"\n")
        self.log_grew.set()

    def traffic(self, agent: str) -> dict[str, int]:
        """What the agent's calls are split into, revision -> per cent, without zeros."""
        [found] = [desired for (_, name), desired in self.desired.items() if name == agent]
        return {target.revision: target.percent for target in found.traffic if target.percent}
