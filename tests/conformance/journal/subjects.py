"""What a test does to a journal from outside of its protocol."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator_runtime.contract.wire import connect
from tests.fakes.journal_server import FakeJournal
from tests.integration.journal.world import ORGANIZATION, Instance, World


class Subject(Protocol):
    async def instance(self, name: str = "i-1", *, greets: bool = True) -> Instance:
        """A connected instance; `greets`: it has said hello."""
        ...

    async def submit(self, run: str, body: bytes) -> None:
        """Record a run that waits to be dispatched."""
        ...

    async def lose(self, run: str, instance: Instance) -> None:
        """The instance that works on the run is gone, as far as the journal knows."""
        ...

    async def cancel(self, run: str) -> None: ...


@dataclass(frozen=True, slots=True)
class FakeSubject:
    fake: FakeJournal

    async def instance(self, name: str = "i-1", *, greets: bool = True) -> Instance:
        cancels: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        peer = await connect(str(self.fake.path), {"cancel": lambda _, message: cancels.put_nowait(message.fields)})
        if greets:
            await peer.call("hello", {"protocol": 1, "token": name})
        return Instance(peer, name, cancels)

    async def submit(self, run: str, body: bytes) -> None:
        self.fake.submit(run, body)

    async def lose(self, run: str, instance: Instance) -> None:
        self.fake.lose(run)

    async def cancel(self, run: str) -> None:
        self.fake.cancel(run)


@dataclass(frozen=True, slots=True)
class RealSubject:
    journal: World

    async def instance(self, name: str = "i-1", *, greets: bool = True) -> Instance:
        return await self.journal.instance(name, greets=greets)

    async def submit(self, run: str, body: bytes) -> None:
        await self.journal.submit(run, body)

    async def lose(self, run: str, instance: Instance) -> None:
        await self.journal.journal.instances_lost([instance.id], "killed")

    async def cancel(self, run: str) -> None:
        await self.journal.journal.cancel(ORGANIZATION, run)
