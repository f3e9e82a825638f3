"""supervisor.sock as the gateway sees it: instances are fakes in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.wire import Message, Peer
from tests.fakes.instance_server import FakeInstance


@dataclass(slots=True)
class FakeSupervisor:
    """`fail_with` makes every start fail; `may_start` holds starts back until it is set. `attempts` counts starts."""

    folder: Path
    instances: dict[str, FakeInstance] = field(default_factory=dict)
    revisions: dict[str, tuple[str, str]] = field(default_factory=dict)
    stopped: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    started: asyncio.Queue[FakeInstance] = field(default_factory=asyncio.Queue)
    fail_with: Problem | None = None
    attempts: int = 0
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    peers: set[Peer] = field(default_factory=set)
    _server: asyncio.AbstractServer | None = None
    _closed: bool = False

    @property
    def path(self) -> Path:
        return self.folder / "supervisor.sock"

    async def start(self) -> None:
        self.may_start.set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._peer, str(self.path))

    def close(self) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.close()
        for instance in self.instances.values():
            instance.kill()

    def exit(self, instance: FakeInstance, *, reason: str = "exited") -> None:
        """The instance dies, and everybody who subscribed is told."""
        organization, revision = self.revisions[instance.id]
        instance.kill()
        self.instances.pop(instance.id, None)
        for peer in self.peers:
            fields = {"instance": instance.id, "organization": organization, "revision": revision, "reason": reason}
            peer.notify("instance.exited", fields)

    async def launch(self, organization: str, revision: str) -> FakeInstance:
        number = len(self.revisions) + 1
        instance = FakeInstance(f"{revision}-{number}", self.folder / f"{number}.sock")
        self.revisions[instance.id] = (organization, revision)  # takes the number, before other launches look
        await instance.start()
        if self._closed:
            instance.kill()
        self.instances[instance.id] = instance
        self.started.put_nowait(instance)
        return instance

    def _peer(self) -> Peer:
        return Peer(
            {"subscribe": self._subscribe, "instance.start": self._start, "instance.stop": self._stop},
            on_lost=self.peers.discard,
        )

    def _info(self, instance: FakeInstance) -> dict[str, Any]:
        organization, revision = self.revisions[instance.id]
        return {
            "instance": instance.id,
            "organization": organization,
            "agent": revision.rpartition("-")[0],
            "revision": revision,
            "socket": str(instance.path),
            "call_token": f"token-of-{instance.id}",
            "state": "ready",
        }

    def _subscribe(self, peer: Peer, message: Message) -> Message:
        self.peers.add(peer)
        return Message({"instances": [self._info(instance) for instance in self.instances.values()]})

    async def _start(self, peer: Peer, message: Message) -> Message:
        self.attempts += 1
        await self.may_start.wait()
        if self.fail_with is not None:
            raise self.fail_with
        instance = await self.launch(message.fields["organization"], message.fields["revision"])
        return Message(self._info(instance))

    async def _stop(self, peer: Peer, message: Message) -> Message:
        instance = self.instances.get(message.fields["instance"])
        if instance is not None:
            self.stopped.put_nowait(instance.id)
            self.exit(instance, reason="stopped")
        return Message()
