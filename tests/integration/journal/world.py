"""A real journal for tests: a database, the service, and its socket; instances that speak the protocol over it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from control_api.changes import Changes
from control_api.journal.limits import Limits
from control_api.journal.server import JournalServer
from control_api.journal.service import Journal
from control_api.journal.sweeper import Sweeper
from control_api.journal.tokens import Identity, Tokens
from control_api.store.database import Database, WriteSession, open_database
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import organizations, runs
from control_api.store.upsert import insert_missing
from orchestrator_runtime.contract.wire import Message, Peer, connect, with_parts
from tests.fakes.keys import organization_keys
from tests.fakes.manual_clock import ManualClock

ORGANIZATION = "org-1"
AGENT = "echo"
REVISION = "echo-00001"
REQUEST = {"method": "POST", "path": "/", "query": "", "content_type": "application/json"}


def admission(run: str, **members: Any) -> dict[str, Any]:
    return {
        "run": run,
        "trigger": "http",
        "request": REQUEST,
        "deadline": 60.0,
        "correlation": f"c-{run}",
        **members,
    }


@dataclass(slots=True)
class Instance:
    """An instance's end of the socket. What it is told to stop is in `cancels`."""

    peer: Peer
    id: str
    cancels: asyncio.Queue[dict[str, Any]]

    async def call(self, operation: str, body: bytes = b"", **fields: Any) -> Message:
        return await self.peer.call(operation, fields, body)

    async def admit(self, run: str, body: bytes = b'"in"', **members: Any) -> Message:
        return await self.peer.call("admit", admission(run, **members), body)

    def start_admit(self, run: str, body: bytes = b'"in"', **members: Any) -> asyncio.Future[Message]:
        """Ask, and do not wait."""
        return self.peer.start_call("admit", admission(run, **members), body)

    async def take(self, run: str) -> Message:
        """Ask for a run that was dispatched."""
        return await self.peer.call("admit", {"run": run, "dispatched": True, "deadline": 60.0})

    async def append(self, run: str, epoch: int, *events: dict[str, Any], **fields: Any) -> Message:
        blobs: list[bytes] = fields.pop("blobs", [])
        message = with_parts({"run": run, "epoch": epoch, "events": list(events), **fields}, blobs)
        return await self.peer.call("append", message.fields, message.body)

    async def end(self, run: str, epoch: int = 1, body: bytes = b'"out"', **ending: Any) -> Message:
        fields = {"state": "succeeded", "status": 200, "content_type": "application/json", **ending}
        return await self.peer.call("end", {"run": run, "epoch": epoch, **fields}, body)

    async def fail(self, run: str, epoch: int = 1, **ending: Any) -> Message:
        problem = {"code": "agent_failed", "status": 500, "detail": "It broke", "title": "The agent failed"}
        return await self.end(run, epoch, b"", **{"state": "failed", "status": 500, "problem": problem, **ending})

    async def in_order(self) -> None:
        """Return when the journal has executed everything that was asked over this connection before."""
        await self.peer.call("checkpoint.delete", {"thread": "nobody's"})

    def close(self) -> None:
        self.peer.close()


@dataclass(slots=True)
class World:
    """One server process, so to speak: `restart` ends it and begins another on the same database and socket."""

    url: str
    path: Path
    clock: ManualClock
    database: Database
    journal: Journal
    tokens: Tokens
    changes: Changes
    task: asyncio.Task[None]
    instances: list[Instance] = field(default_factory=list)

    async def instance(
        self, name: str = "i-1", *, agent: str = AGENT, organization: str = ORGANIZATION, greets: bool = True
    ) -> Instance:
        """A connected instance; `greets`: it has said hello."""
        cancels: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        peer = await connect(str(self.path), {"cancel": lambda _, message: cancels.put_nowait(message.fields)})
        if greets:
            await peer.call("hello", {"protocol": 1, "token": self.token(name, agent=agent, organization=organization)})
        made = Instance(peer, name, cancels)
        self.instances.append(made)
        return made

    def token(self, name: str, *, agent: str = AGENT, organization: str = ORGANIZATION) -> str:
        return self.tokens.mint(Identity(organization, agent, f"{agent}-00001", name))[0]

    async def submit(self, run: str, body: bytes = b'"in"', *, agent: str = AGENT, **members: Any) -> Message:
        fields: Any = admission(run, **members)
        return await self.journal.submit(ORGANIZATION, agent, f"{agent}-00001", fields, body)

    async def result(self, run: str, *, wait: float = 0.0, key: str | None = None) -> Message:
        return await self.journal.result(ORGANIZATION, run=run, agent=AGENT, key=key, wait=wait)

    async def row(self, run: str) -> Any:
        """The run's row, with attributes."""
        query = select(runs).where(runs.c.organization == ORGANIZATION, runs.c.id == run)
        return await self.database.read(lambda session: session.execute(query).one())

    async def all_rows(self) -> list[Any]:
        return await self.database.read(lambda session: list(session.execute(select(runs).order_by(runs.c.id)).all()))

    async def restart(self) -> None:
        await self.stop()
        fresh = await _start(self.url, self.path, self.clock)
        self.database, self.journal, self.changes, self.task = (
            fresh.database,
            fresh.journal,
            fresh.changes,
            fresh.task,
        )

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        for instance in self.instances:
            instance.close()
            await instance.peer.lost
        self.instances.clear()
        await self.database.close()


async def _start(url: str, path: Path, clock: ManualClock, limits: Limits | None = None) -> World:
    database = open_database(url)
    keys = organization_keys(clock)
    changes = Changes()
    journal = Journal(database, keys=keys, clock=clock, changes=changes)
    tokens = Tokens(b"journal", clock=clock)
    await database.write(lambda session: create_organization(session, keys, ORGANIZATION, clock.now()))
    listening = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)
    listening.bind(str(path))
    listening.listen()
    task = asyncio.create_task(JournalServer(journal, tokens, limits=limits).serve(listening))
    return World(url, path, clock, database, journal, tokens, changes, task)


def create_organization(session: WriteSession, keys: OrganizationKeys, organization: str, now: datetime) -> None:
    insert_missing(session, organizations, {"id": organization, "name": organization, "created_at": now})
    keys.create(session, organization)


@asynccontextmanager
async def world(url: str, path: Path, *, limits: Limits | None = None) -> AsyncIterator[World]:
    running = await _start(url, path, ManualClock(), limits)
    try:
        yield running
    finally:
        await running.stop()


async def sweep(journal: World) -> list[str]:
    """Sweep once; returns the instances that were to be stopped."""
    stopped: list[str] = []

    async def stop(fields: dict[str, Any]) -> None:
        stopped.append(fields["instance"])

    sweeper = Sweeper(journal.journal, journal.clock, stop)
    await sweeper.sweep()
    await sweeper.settle()
    return stopped
