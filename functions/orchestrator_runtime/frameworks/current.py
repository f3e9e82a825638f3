"""Which run the code that is executing belongs to, and how to reach its journal from any thread.

The server (or an adapter) opens `running` around each attempt; `recording` and the adapters' hooks ask `current`.
Frameworks start threads of their own, some without copying the context: a call made there still finds its run
when it is the only one in the process. With several, such a call is not recorded, which is never wrong, only less.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from orchestrator_runtime.frameworks.adapter import Call, RunContext

T = TypeVar("T")
Place = Callable[[], tuple[str, str | None]]
"""Where in the run we are: the part of it within which equal calls are counted, and the step that is the parent."""


class Active:
    """An attempt that is executing in this process."""

    def __init__(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.run: RunContext = call.run
        self.place: Place = lambda: ("", None)
        self.given_back: dict[tuple[str, bytes], list[Any]] = {}  # identities of calls that failed (`calls`)
        self.model_calls = 0  # seen by `recording`
        self.lock = threading.Lock()
        self._loop = loop
        self._owner = threading.get_ident()
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None

    @property
    def in_loop(self) -> bool:
        """Whether this is the thread of the run's event loop, where nothing may block."""
        return threading.get_ident() == self._owner

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the run's loop and wait for it. Raises `RuntimeError` in the loop's own thread."""
        if self.in_loop:
            work.close()
            raise RuntimeError("blocking here would stop the event loop: use the asynchronous twin of this call")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on the run's loop, from whichever loop this is: a framework's threads may have their own."""
        if self.in_loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do `work` on the run's loop without waiting for it; `settle` does. May be called from any thread."""
        if self.in_loop:
            self._begin(work)
        else:
            self._loop.call_soon_threadsafe(self._begin, work)

    def tell(self, event: str, value: Any) -> None:
        """Send a piece of the stream from any thread, in the order of the calls."""
        if self.call.stream:
            self.later(self._emit(event, value))

    async def settle(self) -> None:
        """Wait for all that was begun by `later`; raises what the first failure of it was."""
        await asyncio.sleep(0)  # what other threads have just handed over becomes tasks
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error

    async def _emit(self, event: str, value: Any) -> None:
        async with self._order:
            await self.call.emit(event, value)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and self._error is None:
            self._error = task.exception()


_current: ContextVar[Active | None] = ContextVar("orchestrator_current_run", default=None)
_all: list[Active] = []
_lock = threading.Lock()


@contextmanager
def running(call: Call) -> Iterator[Active]:
    """Mark what is executed in this context as `call`'s attempt. Nested for the same run, it yields the outer one."""
    outer = _current.get()
    if outer is not None and outer.run is call.run:
        yield outer
        return
    active = Active(call, asyncio.get_running_loop())
    token = _current.set(active)
    with _lock:
        _all.append(active)
    try:
        yield active
    finally:
        with _lock:
            _all.remove(active)
        _current.reset(token)


def current() -> Active | None:
    """The attempt that this code belongs to; outside of any context, the only one there is."""
    active = _current.get()
    if active is not None:
        return active
    with _lock:
        return _all[0] if len(_all) == 1 else None
