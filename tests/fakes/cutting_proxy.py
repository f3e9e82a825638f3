"""A TCP proxy in front of a PostgreSQL that breaks connections around a COMMIT: its client cannot know what holds.

async with cutting_proxy(port) as proxy:
    proxy.cut = "after"        # the next COMMIT is done, and its answer lost; "before": it never arrives
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

CHUNK = 64 * 1024
COMMIT = b"COMMIT"  # as the driver sends it: a simple query, or a parsed one


@dataclass(slots=True)
class CuttingProxy:
    """`cut` is over when it has happened; `happened` counts."""

    target: int
    port: int = 0
    cut: Literal["before", "after"] | None = None
    happened: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.target)
        answers = asyncio.create_task(_copy(onward_reader, writer))
        try:
            while data := await reader.read(CHUNK):
                if self.cut is not None and COMMIT in data:
                    how, self.cut = self.cut, None
                    self.happened += 1
                    answers.cancel()
                    await asyncio.wait([answers])
                    if how == "after":
                        onward.write(data)
                        await onward_reader.read(CHUNK)  # so it is committed
                    return
                onward.write(data)
                await onward.drain()
        except ConnectionError:
            return  # one end has gone, and so does the other
        finally:
            answers.cancel()
            await asyncio.wait([answers])
            onward.close()
            writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return  # its other end has gone
    writer.close()


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    """A proxy on a free port of the loopback, for the PostgreSQL at the port `target`."""
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
