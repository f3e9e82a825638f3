"""Blocking functions of an agent: each call in a thread of its own, with the context of the run it belongs to.

A thread cannot be ended from outside. When its run is stopped, an exception is raised between two of its bytecodes,
and the call is over when the thread says so: code that waits in C gets it when it comes back.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from orchestrator_runtime.contract.instance import InstanceStart

T = TypeVar("T")

UNLIMITED = 1000  # threads where the number of concurrent requests has no limit
SPARE = 16  # threads and processes of an instance's limit that are left to others


class Stopped(BaseException):
    """The run is over. No `Exception`: an agent that goes on after any error must not go on after this one."""


class Threads:
    """As many threads as an instance may work on requests at once; each is made when it is first needed."""

    def __init__(self, start: InstanceStart) -> None:
        most = max(1, start.limits.processes - SPARE)
        self._pool = ThreadPoolExecutor(min(start.concurrency or UNLIMITED, most), thread_name_prefix="agent")

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)` in a thread. Cancelled, it returns only after the thread has left the function."""
        work = Work(function, args)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, contextvars.copy_context().run, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            work.stop()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # seen: the caller hears of the cancel
            raise


class Work(Generic[T]):
    """A call that is made in a thread, and that `stop` ends from another one."""

    def __init__(self, function: Callable[..., T], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._stopped = False

    def __call__(self) -> T:
        with self._lock:
            if self._stopped:
                raise Stopped
            self._thread = threading.get_ident()
        try:
            return self._function(*self._args)
        finally:
            with self._lock:
                _raise_in(self._thread, None)  # an exception that has not come yet must not meet the next call
                self._thread = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._thread is not None:
                _raise_in(self._thread, Stopped)


def _raise_in(thread: int | None, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread or 0), ctypes.py_object(kind) if kind else None)
