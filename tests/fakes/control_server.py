"""control.sock as the gateway sees it: pushes routes, records what is submitted, knows results."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.wire import Message, Peer

ORGANIZATION = "org-1"
TOKEN = "owner-token"


def create_route(agent: str = "echo", **changes: Any) -> dict[str, Any]:
    """A route with one revision, AGENT-00001, that gets all the traffic."""
    revision = f"{agent}-00001"
    route = {
        "organization": ORGANIZATION,
        "organization_name": "acme",
        "agent": agent,
        "access": "organization",
        "payload_limit": 1024 * 1024,
        "timeout": 30.0,
        "retries": 0,
        "traffic": [{"revision": revision, "percent": 100, "tag": None}],
        "revisions": {revision: create_revision()},
    }
    return {**route, **changes}


def create_revision(*, timeout: float = 30.0, **scale: Any) -> dict[str, Any]:
    defaults = {"min": 0, "max": 20, "metric": "concurrency", "target": None, "target_utilization": 70, "window": 60.0}
    return {
        "scale": {**defaults, "concurrency_limit": 100, **scale},
        "timeout": timeout,
        "start_timeout": 5.0,
        "grace": 1.0,
        "start": {"agent": "echo"},
        "environment": {"digest": "e", "path": "/e", "python": "/e/python"},
        "source": "/s",
        "secrets": [],
    }


def create_credential(
    token: str = TOKEN,
    *,
    permissions: tuple[str, ...] = ("agents:invoke",),
    organization: str = ORGANIZATION,
    **members: Any,
) -> dict[str, Any]:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return {"digest": digest, "organization": organization, "permissions": list(permissions), **members}


@dataclass(slots=True)
class FakeServer:
    """`results` answers `run.result`: the first for any run, in order; without one it waits for `put_result`."""

    path: Path
    routes: dict[str, Any] = field(default_factory=dict)
    submitted: list[Message] = field(default_factory=list)
    asked: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    results: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    commits: asyncio.Event = field(default_factory=asyncio.Event)  # clear it, and submitted runs wait
    statuses: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    greeted: asyncio.Queue[Peer] = field(default_factory=asyncio.Queue)
    used: list[str] = field(default_factory=list)  # digests of credentials that the gateway has let in
    peers: set[Peer] = field(default_factory=set)
    _server: asyncio.AbstractServer | None = None

    def __post_init__(self) -> None:
        self.commits.set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._peer, str(self.path))

    async def serve(self, listening: socket.socket) -> None:
        """Like `start`, on a socket that somebody else has opened."""
        self._server = await asyncio.get_running_loop().create_unix_server(self._peer, sock=listening)

    def close(self) -> None:
        """The server dies: nobody listens and every channel breaks."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in list(self.peers):
            peer.close()
        self.path.unlink(missing_ok=True)

    def push(self, *agents: dict[str, Any], credentials: list[dict[str, Any]] | None = None) -> None:
        """From now on these are the routes; who is connected is told."""
        self.routes = {
            "first_organization": ORGANIZATION,
            "credentials": [create_credential()] if credentials is None else credentials,
            "agents": list(agents),
            "generation": self.routes.get("generation", 0) + 1,
        }
        for peer in self.peers:
            peer.notify("routes", self.routes)

    def _peer(self) -> Peer:
        return Peer(
            {
                "gateway.hello": self._hello,
                "run.submit": self._submit,
                "run.result": self._result,
                "revision.status": self._status,
                "credentials.used": self._used,
            },
            on_lost=self.peers.discard,
        )

    def _hello(self, peer: Peer, message: Message) -> Message:
        self.peers.add(peer)
        self.greeted.put_nowait(peer)
        if self.routes:
            peer.notify("routes", self.routes)
        return Message()

    async def _submit(self, peer: Peer, message: Message) -> Message:
        self.submitted.append(message)
        await self.commits.wait()
        return Message({"run": message.fields["run"], "state": "pending"})

    async def _result(self, peer: Peer, message: Message) -> Message:
        self.asked.put_nowait(message.fields)
        return await self.results.get()

    def _status(self, peer: Peer, message: Message) -> None:
        self.statuses.put_nowait(message.fields)

    def _used(self, peer: Peer, message: Message) -> None:
        self.used += message.fields["digests"]
