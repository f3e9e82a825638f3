"""Keeps the server and the gateway running: a child that ends is started again, after a pause that grows.

A child that another start would not help says so with `give_up`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem, from_document

logger = logging.getLogger("supervisor.children")

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0
STABLE_AFTER = 30.0  # a child that lived this long starts again without a pause
PR_SET_PDEATHSIG = 1
CANNOT_START = os.EX_CONFIG  # exit code of a child that would end in the same way again
PROBLEM_FD = "ORCHESTRATOR_PROBLEM_FD"

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Runs in the child between fork and exec: the kernel kills it when the supervisor dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def give_up(problem: Problem, environ: Mapping[str, str]) -> NoReturn:
    """For a child's own process: end, and tell the supervisor why it need not start it again."""
    if PROBLEM_FD in environ:
        os.write(int(environ[PROBLEM_FD]), json.dumps(problem.document()).encode())
    sys.exit(CANNOT_START)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A Python module to run, the environment it gets, and the descriptors it inherits under their own numbers."""

    name: str
    module: str
    env: Mapping[str, str]
    pass_fds: Sequence[int] = ()


class Child:
    """One process that is kept running until `stop`."""

    def __init__(self, spec: ChildSpec, *, clock: Clock) -> None:
        self.spec = spec
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self._clock = clock
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start the process again and again; returns after `stop`. Raises the `Problem` with which it gave up."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = self._clock.monotonic()
            code, problem = await self._start()
            if self._stopping.is_set():
                return
            if problem is not None:
                logger.error("%s cannot start, and another start would not help", self.spec.name)
                raise problem
            self.restarts += 1
            logger.error("%s ended with code %s and is started again", self.spec.name, code)
            if self._clock.monotonic() - started > STABLE_AFTER:
                pause = FIRST_PAUSE
            await self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _start(self) -> tuple[int, Problem | None]:
        """Run the process to its end: its exit code, and the problem if it gave up."""
        reading, writing = os.pipe()
        try:
            # preexec_fn inside asyncio is safe here: our only other thread (`sandbox.device`) starts nothing
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.spec.module,
                env={**self.spec.env, PROBLEM_FD: str(writing)},
                pass_fds=(*self.spec.pass_fds, writing),
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        with os.fdopen(reading) as said:
            code = await self.process.wait()
            return code, from_document(json.load(said)) if code == CANNOT_START else None

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:  # the pause is over and nobody asked us to stop
            return

    def terminate(self) -> None:
        """Ask the process to end; it is not started again."""
        self._stopping.set()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()

    async def stop(self, *, grace: float) -> None:
        """Ask the process to end, and kill it after `grace` seconds."""
        self.terminate()
        process = self.process
        if process is None or process.returncode is not None:
            return
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:  # it did not drain in time
            process.kill()
            await process.wait()
