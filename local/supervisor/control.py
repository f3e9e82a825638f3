"""supervisor.sock: what server and gateway may ask of the supervisor, and what they are told (docs/internals.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from local.supervisor.instances import Credentials, Instance, Instances, StartRequest
from local.supervisor.sandboxes import Sandboxes
from orchestrator_runtime.contract.errors import BadInput, Unavailable
from orchestrator_runtime.contract.wire import Message, Peer

CREDENTIALS_WAIT = 30.0  # seconds that a start waits for a server that is just being restarted


class Control:
    """The supervisor's end of every connection to supervisor.sock."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self.instances: Instances | None = None
        self.on_gateway: Callable[[], None] = lambda: None
        self._subscribers: set[Peer] = set()
        self._stopping: set[asyncio.Future[None]] = set()
        self._server: Peer | None = None
        self._server_there = asyncio.Event()
        self._gateway_there = asyncio.Event()

    def peer(self) -> Peer:
        """A protocol for one accepted connection."""
        return Peer(
            {
                "subscribe": self._subscribe,
                "instance.start": self._start,
                "instance.stop": self._stop,
                "instance.list": self._list,
                "zygote.warm": self._warm_zygote,
                "sandbox.run": self._sandbox_run,
                "sandbox.kill": self._sandbox_kill,
            },
            on_lost=self._lost,
        )

    async def both_there(self) -> None:
        """Return once a server and a gateway have subscribed."""
        await self._server_there.wait()
        await self._gateway_there.wait()

    def announce(self, operation: str, fields: dict[str, Any]) -> None:
        """Tell everyone who subscribed."""
        for peer in self._subscribers:
            peer.notify(operation, fields)

    def renew_leases(self) -> None:
        """Say to the server which instances live; it renews the leases of their runs."""
        if self._server is not None and self.instances is not None:
            living = [instance.id for instance in self.instances.all() if instance.forked is not None]
            self._server.notify("leases.renew", {"instances": living})

    async def credentials(self, instance: str, request: StartRequest) -> Credentials:
        """Ask the server what an instance may know; `Unavailable` if no server comes within `CREDENTIALS_WAIT`."""
        fields = {
            "instance": instance,
            "organization": request.organization,
            "agent": request.start["agent"],
            "revision": request.revision,
            "secrets": request.secrets,
        }
        try:
            async with asyncio.timeout(CREDENTIALS_WAIT):
                reply = await self._ask_server("instance.credentials", fields)
        except TimeoutError as error:
            raise Unavailable("The server is not running", code="server_unavailable", hint="Try again.") from error
        return Credentials(
            journal_token=reply.fields["journal_token"],
            expires=float(reply.fields["expires"]),
            secrets=dict(reply.fields["secrets"]),
        )

    async def _ask_server(self, operation: str, fields: dict[str, Any]) -> Message:
        """Call the server, and call the next one if this one dies before it answers."""
        while True:
            await self._server_there.wait()
            try:
                return await self._connected_server().call(operation, fields)
            except Unavailable as error:
                if error.code != "connection_lost":
                    raise

    def _connected_server(self) -> Peer:
        if self._server is None:
            raise Unavailable("The server was just lost", code="connection_lost")
        return self._server

    def _subscribe(self, peer: Peer, message: Message) -> Message:
        self._subscribers.add(peer)
        if message.fields.get("role") == "server":
            self._server = peer
            self._server_there.set()
        if message.fields.get("role") == "gateway":
            self._gateway_there.set()
            self.on_gateway()
        return self._list(peer, message)

    def _lost(self, peer: Peer) -> None:
        self._subscribers.discard(peer)
        if peer is self._server:
            self._server = None
            self._server_there.clear()

    def _all(self) -> Instances:
        if self.instances is None:
            raise Unavailable("The supervisor is just starting", code="starting", hint="Try again.")
        return self.instances

    def _list(self, peer: Peer, message: Message) -> Message:
        infos = [instance.info() for instance in self._all().all()]
        return Message({"instances": infos, "protections": dict(self._sandboxes.protections())})

    async def _start(self, peer: Peer, message: Message) -> Message:
        fields = message.fields
        try:
            request = StartRequest(
                organization=fields["organization"],
                revision=fields["revision"],
                environment=fields["environment"],
                source=fields["source"],
                start=fields["start"],
                start_timeout=float(fields["start_timeout"]),
                secrets=list(fields.get("secrets", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"instance.start lacks or garbles {error}", code="bad_request") from error
        instance: Instance = await self._all().start(request)
        return Message(instance.info())

    async def _stop(self, peer: Peer, message: Message) -> Message:
        stopping = self._all().stop(str(message.fields["instance"]), grace=float(message.fields.get("grace", 0)))
        task = asyncio.ensure_future(stopping)
        self._stopping.add(task)  # it goes on when whoever asked has died: nobody else would ask again
        task.add_done_callback(self._stopping.discard)
        await asyncio.shield(task)
        return Message()

    async def _warm_zygote(self, peer: Peer, message: Message) -> Message:
        fields = message.fields
        await self._sandboxes.warm(fields["organization"], fields["environment"], fields["framework"])
        return Message()

    async def _sandbox_run(self, peer: Peer, message: Message) -> Message:
        return Message({"code": await self._sandboxes.run(peer, message.fields)})

    def _sandbox_kill(self, peer: Peer, message: Message) -> None:
        self._sandboxes.cancel_build(peer, str(message.fields["run"]))
