"""The gateway's end of control.sock: says hello, keeps the routes it is pushed, answers probes as it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.errors import NotFound, Problem
from orchestrator_runtime.contract.wire import Handler, Message, Peer, connect


class FakeGateway:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.snapshots: list[dict[str, Any]] = []
        self.applied: list[int] = []  # how many snapshots there were when it was asked whether they are applied
        self.pushed = asyncio.Event()
        self.failing: dict[str, Problem] = {}
        self.dispatched: list[Message] = []

    @classmethod
    async def connect(cls, path: Path) -> FakeGateway:
        """Connect and say hello."""
        handlers: dict[str, Handler] = {}
        gateway = cls(await connect(str(path), handlers))
        handlers |= {
            "routes": gateway._routes,
            "routes.applied": gateway._applied,
            "revision.probe": gateway._probe,
            "run.dispatch": gateway._dispatch,
            "metrics": lambda peer, message: Message({}, b"gateway_requests_total 3\n"),
        }
        await gateway.peer.call("gateway.hello")
        return gateway

    async def routes(self) -> dict[str, dict[str, Any]]:
        """The agents of the newest snapshot, by name."""
        while not self.snapshots:
            self.pushed.clear()
            await self.pushed.wait()
        return {agent["agent"]: agent for agent in self.snapshots[-1]["agents"]}

    async def next_push(self) -> None:
        self.pushed.clear()
        await self.pushed.wait()

    def _routes(self, peer: Peer, message: Message) -> None:
        self.snapshots.append(message.fields)
        self.pushed.set()

    def _applied(self, peer: Peer, message: Message) -> Message:
        self.applied.append(len(self.snapshots))
        return Message()

    def _probe(self, peer: Peer, message: Message) -> Message:
        revision = message.fields["revision"]
        if problem := self.failing.get(revision):
            raise problem
        if not any(revision in agent["revisions"] for agent in self.snapshots[-1]["agents"]):
            raise NotFound(f"No revision {revision}", code="revision_unknown")
        return Message()

    def _dispatch(self, peer: Peer, message: Message) -> Message:
        self.dispatched.append(message)
        return Message({"status": 200})
