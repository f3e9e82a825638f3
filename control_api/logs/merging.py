"""Several logs as one: those that are complete in the order of time, those that grow in the order they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

AHEAD = 1000  # lines that are read before somebody takes them


async def in_order(logs: Iterable[AsyncIterator[bytes]]) -> AsyncGenerator[bytes]:
    """The lines of logs that are each in order, by the time `at` in each line."""
    heads: list[tuple[str, int, bytes, AsyncIterator[bytes]]] = []
    for number, log in enumerate(logs):
        await _push(heads, number, log)
    while heads:
        first = min(heads)
        heads.remove(first)
        _, number, line, log = first
        yield line
        await _push(heads, number, log)


async def _push(
    heads: list[tuple[str, int, bytes, AsyncIterator[bytes]]], number: int, log: AsyncIterator[bytes]
) -> None:
    line = await anext(log, None)
    if line is not None:
        heads.append((_moment(line), number, line, log))


def _moment(line: bytes) -> str:
    """When it was written; a line that does not say comes first, where it does not hold up others."""
    try:
        return str(json.loads(line)["at"])
    except (ValueError, TypeError, KeyError):  # cut short by a crash
        return ""


class Following:
    """Logs that are read at the same time, each in a task of its own; more can be added while it goes on.

    `grew` is set when there are lines to take. Who does not take them holds up the reading.
    """

    def __init__(self) -> None:
        self.grew = asyncio.Event()
        self._lines: list[bytes] = []
        self._taken = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, log: AsyncIterator[bytes]) -> None:
        self._tasks[name] = asyncio.create_task(self._pump(log))

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def take(self) -> list[bytes]:
        """What has come since the last time."""
        self.grew.clear()
        lines, self._lines = self._lines, []
        self._taken.set()
        return lines

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _pump(self, log: AsyncIterator[bytes]) -> None:
        async for line in log:
            self._lines.append(line)
            self.grew.set()
            while len(self._lines) >= AHEAD:
                self._taken.clear()
                await self._taken.wait()
