"""What a connection writes in one turn of the event loop, as one system call: head and body leave together."""

from __future__ import annotations

import asyncio


class Outbox:
    """In front of a transport's `write`. What is left is lost when the transport is aborted."""

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)

    def flush(self) -> None:
        """Write now: before the transport is closed, or its sending half."""
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces) if len(pieces) > 1 else pieces[0])
