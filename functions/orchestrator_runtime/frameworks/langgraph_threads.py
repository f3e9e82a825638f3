"""Threads for blocking nodes, which LangGraph runs in the event loop's default executor.

asyncio's own has a few threads however many runs an instance may work on, and lets a node go on after its run was
cancelled. This one takes its place.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.frameworks.current import Active, current
from orchestrator_runtime.frameworks.threads import SPARE, UNLIMITED

PER_RUN = 4  # nodes of one run that may block at the same time, if all runs do
FEWEST = 32


class NodeThreads(ThreadPoolExecutor):
    """Each thread is made when it is first needed. Calls made in a run are known by it."""

    def __init__(self, start: InstanceStart) -> None:
        wanted = max(FEWEST, PER_RUN * (start.concurrency or UNLIMITED))
        super().__init__(max(1, min(wanted, start.limits.processes - SPARE)), thread_name_prefix="node")
        self._working: defaultdict[Active, set[Future[Any]]] = defaultdict(set)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take_over(self) -> None:
        """Become the default executor of the running event loop, if it is not."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.set_default_executor(self)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        active = current()
        if active is None:
            return super().submit(function, *args, **kwargs)
        with self._lock:
            future = super().submit(function, *args, **kwargs)
            self._working[active].add(future)
        future.add_done_callback(partial(self._ended, active))
        return future

    async def stop(self, active: Active) -> None:
        """Drop what has not begun of a run's work, and wait until its last thread has left the agent's code."""
        with self._lock:
            working = list(self._working.get(active, ()))
        ended = [asyncio.wrap_future(future) for future in working if not future.cancel()]
        await asyncio.gather(*ended, return_exceptions=True)

    def _ended(self, active: Active, future: Future[Any]) -> None:
        with self._lock:
            self._working[active].discard(future)
            if not self._working[active]:
                del self._working[active]
