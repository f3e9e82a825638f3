"""Blocking functions of an agent: each call in a thread of its own, with the context of the run it belongs to.

A thread cannot be ended from outside (an exception raised in it by the interpreter makes CPython 3.11 hang where code
is traced). So a call is over when its function returns: code that looks at `Run.cancelled` can be quick about it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from orchestrator_runtime.contract.instance import InstanceStart

T = TypeVar("T")

UNLIMITED = 1000  # threads where the number of concurrent requests has no limit
SPARE = 16  # threads and processes of an instance's limit that are left to others


class Threads:
    """As many threads as an instance may work on requests at once; each is made when it is first needed."""

    def __init__(self, start: InstanceStart) -> None:
        most = max(1, start.limits.processes - SPARE)
        self._pool = ThreadPoolExecutor(min(start.concurrency or UNLIMITED, most), thread_name_prefix="agent")

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` in a thread. Cancelled, it returns only after the thread has left the function."""
        work = self._pool.submit(contextvars.copy_context().run, function, *args)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            if not work.cancelled():  # it has begun
                left = asyncio.wrap_future(work)
                await asyncio.wait([left])
                left.exception()  # seen: the caller hears of the cancel
            raise
