"""The server's end of control.sock: it listens, the gateway connects, says hello and is told the routes.

There is one gateway at a time; a new one takes the place of one that died. What could not be asked because no gateway
was there waits for the next one, so that nobody above has to know that it was restarted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.wire import Handler, Message, Peer

logger = logging.getLogger("platform.gateway")

TOLD_WAIT = 5.0  # seconds
GATEWAY_WAIT = 30.0  # seconds a call waits for a gateway that is just being started again


class GatewayChannel:
    """`routes()` gives the snapshot that is pushed: {"credentials": […], "agents": […]}."""

    def __init__(self, handlers: Mapping[str, Handler], *, routes: Callable[[], dict[str, Any]]) -> None:
        self._handlers = {**handlers, "gateway.hello": self._hello}
        self._routes = routes
        self._generation = 0
        self._gateway: Peer | None = None
        self._there = asyncio.Event()
        self._push_due = False
        self._peers: set[Peer] = set()

    @property
    def connected(self) -> bool:
        return self._gateway is not None

    async def serve(self, listening: socket.socket) -> None:
        """Accept gateways until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(self._accept, sock=listening)
        try:
            await server.serve_forever()
        finally:
            for peer in list(self._peers):
                peer.close()
            server.close()

    def changed(self) -> None:
        """Push the routes when this turn of the loop is over; several changes of one turn are one push."""
        if not self._push_due:
            self._push_due = True
            asyncio.get_running_loop().call_soon(self._push)

    async def call(self, operation: str, fields: dict[str, Any], body: bytes = b"", *, again: bool = False) -> Message:
        """Ask the gateway. It has seen every change of the routes that was made before.

        `again` repeats the question to the next gateway if this one dies before it answers; without it that is
        `Unavailable` (`connection_lost`), as it is `Unavailable` (`gateway_unavailable`) if none comes.
        """
        while True:
            gateway = await self._wait()
            if self._push_due:
                self._push()
            try:
                return await gateway.call(operation, fields, body)
            except Unavailable as error:
                if error.code != "connection_lost" or not again:
                    raise

    async def told(self) -> None:
        """Return when the gateway that is there has applied every change that was made before.

        At once if there is none: the next one starts with them.
        """
        gateway = self._gateway
        if gateway is None:
            return
        if self._push_due:
            self._push()
        try:
            async with asyncio.timeout(TOLD_WAIT):
                await gateway.call("routes.applied", {})
        except (TimeoutError, Unavailable) as error:  # it is dying; whoever takes its place knows everything
            logger.warning("the gateway did not say that it knows: %s", error)

    async def _wait(self) -> Peer:
        try:
            async with asyncio.timeout(GATEWAY_WAIT):
                while self._gateway is None:
                    await self._there.wait()
        except TimeoutError as error:
            raise Unavailable("The gateway is not running", code="gateway_unavailable", hint="Try again.") from error
        return self._gateway

    def _accept(self) -> Peer:
        return Peer(self._handlers, on_connected=self._peers.add, on_lost=self._lost)

    def _hello(self, peer: Peer, message: Message) -> Message:
        self._gateway = peer
        self._there.set()
        self.changed()
        logger.info("a gateway is there")
        return Message()

    def _lost(self, peer: Peer) -> None:
        self._peers.discard(peer)
        if peer is self._gateway:
            self._gateway = None
            self._there.clear()
            logger.warning("the gateway is gone")

    def _push(self) -> None:
        self._push_due = False
        if self._gateway is not None:
            self._generation += 1
            self._gateway.notify("routes", {**self._routes(), "generation": self._generation})
