"""Blocking functions of an agent: each call in a thread of its own, with the context of the run it belongs to.

A thread cannot be ended from outside (an exception raised in it by the interpreter makes CPython 3.11 hang where code
is traced). So a call is over when its function returns: code that looks at `Run.cancelled` can be quick about it.

A pool of our own: `concurrent.futures` costs each call as much again as all else that an instance does for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from orchestrator_runtime.contract.instance import InstanceStart

T = TypeVar("T")

UNLIMITED = 1000  # threads where the number of concurrent requests has no limit
SPARE = 16  # threads and processes of an instance's limit that are left to others


class _Work:
    """A function to call, and who waits for it. Either a thread claims it, or the loop, which then drops it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[tuple[Any, BaseException | None]] = self.loop.create_future()
        self._function = function
        self._unclaimed = [True]

    def claim(self) -> bool:
        """Whether whoever asks is the first."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def do(self) -> None:
        """In the thread."""
        result, error = None, None
        try:
            result = self._function()
        except BaseException as raised:  # noqa: BLE001 - it belongs to whoever waits
            error = raised
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if not self.ended.done():
            self.ended.set_result((result, error))


class Threads:
    """As many threads as an instance may work on requests at once; each is made when it is first needed."""

    def __init__(self, start: InstanceStart) -> None:
        self._most = min(start.concurrency or UNLIMITED, max(1, start.limits.processes - SPARE))
        self._waiting: SimpleQueue[_Work] = SimpleQueue()
        self._threads = 0
        self._busy = 0  # calls that a thread works on, or that wait for one

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` in a thread. Cancelled, it returns only after the thread has left the function."""
        context = contextvars.copy_context()
        work = _Work(lambda: context.run(function, *args))
        if self._busy >= self._threads < self._most:
            threading.Thread(target=self._work, name=f"agent_{self._threads}", daemon=True).start()
            self._threads += 1
        self._busy += 1
        self._waiting.put(work)
        try:
            result, error = await work.ended
        except asyncio.CancelledError:
            if not work.claim():  # it has begun
                work.ended = work.loop.create_future()
                await work.ended
            raise
        finally:
            self._busy -= 1
        if error is not None:
            raise error
        return cast("T", result)

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            if work.claim():
                work.do()
            del work  # what it holds is the caller's
