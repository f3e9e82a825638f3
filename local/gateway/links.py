"""The gateway's channels to server and supervisor: connected again whenever they break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.wire import Handler, Message, Peer, connect

logger = logging.getLogger("gateway.links")

FIRST_PAUSE = 0.02  # seconds
LONGEST_PAUSE = 1.0


class Link:
    """One channel. `greet` runs on every new connection, before anybody else may use it."""

    def __init__(
        self, name: str, path: Path, handlers: dict[str, Handler], *, greet: Callable[[Peer], Awaitable[None]]
    ) -> None:
        self._name = name
        self._path = path
        self._handlers = handlers
        self._greet = greet
        self._peer: Peer | None = None
        self._there = asyncio.Event()

    async def run(self) -> None:
        """Keep the channel connected, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                peer = await connect(str(self._path), self._handlers)
                await self._greet(peer)
            except (OSError, Problem) as error:  # it is being restarted: try again
                logger.debug("%s is not there: %s", self._name, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            logger.info("Connected to the %s", self._name)
            self._peer = peer
            self._there.set()
            try:
                await peer.lost
            finally:
                self._peer = None
                self._there.clear()
                peer.close()
            logger.warning("The connection to the %s was lost", self._name)

    async def ready(self) -> None:
        """Wait until it is connected and greeted."""
        await self._there.wait()

    async def call(self, operation: str, fields: dict[str, Any], body: bytes = b"") -> Message:
        """Call, and repeat on the next connection if this one breaks before the reply: operations are idempotent."""
        while True:
            await self._there.wait()
            peer = self._peer
            if peer is None:
                continue
            try:
                return await peer.call(operation, fields, body)
            except Unavailable as error:
                if error.code != "connection_lost":
                    raise
                await asyncio.wait([peer.lost])  # `run` then clears `_there`

    async def call_once(self, operation: str, fields: dict[str, Any]) -> Message:
        """Call now, or fail with `Unavailable` (`connection_lost`)."""
        if self._peer is None:
            raise Unavailable(f"The {self._name} is not running", code="connection_lost", hint="Try again.")
        return await self._peer.call(operation, fields)

    def notify(self, operation: str, fields: dict[str, Any]) -> None:
        """Tell, if somebody is there."""
        if self._peer is not None:
            self._peer.notify(operation, fields)
