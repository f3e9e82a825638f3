"""The server's connection to supervisor.sock: it subscribes to what happens to instances and asks for sandboxed work.

The connection is made again whenever it breaks. In practice that is once: when the supervisor dies, so does the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.wire import Handler, Message, Peer, connect

logger = logging.getLogger("platform.supervisor")

RECONNECT_PAUSE = 0.1  # seconds


class SupervisorChannel:
    """`on_subscribed` is called with {"instances": those that live, "protections"} at the start of every connection."""

    def __init__(
        self, handlers: Mapping[str, Handler], *, on_subscribed: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> None:
        self._handlers = dict(handlers)
        self._on_subscribed = on_subscribed
        self._peer: Peer | None = None
        self._there = asyncio.Event()

    @property
    def connected(self) -> bool:
        return self._peer is not None

    async def serve(self, path: str) -> None:
        """Stay connected until cancelled."""
        while True:
            # Whatever breaks the connection, the answer is the same: try again.
            with contextlib.suppress(OSError, Unavailable):
                await self._session(await connect(path, self._handlers))
                logger.warning("the connection to the supervisor is gone")
            await asyncio.sleep(RECONNECT_PAUSE)

    async def call(self, operation: str, fields: dict[str, Any]) -> Message:
        """Ask the supervisor. Raises `Unavailable` when the connection breaks before the answer."""
        return await (await self.peer()).call(operation, fields)

    async def peer(self) -> Peer:
        """The connection, as soon as there is one."""
        while self._peer is None:
            await self._there.wait()
        return self._peer

    async def _session(self, peer: Peer) -> None:
        try:
            reply = await peer.call("subscribe", {"role": "server"})
            await self._on_subscribed(reply.fields)
            self._peer = peer
            self._there.set()
            await asyncio.shield(peer.lost)
        finally:
            self._peer = None
            self._there.clear()
            peer.close()
