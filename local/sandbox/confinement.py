"""Holds sandboxes to their memory, processes and processor time with what this machine has: control groups, or else
the watchdog and a choice of processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local.sandbox import cgroups
from local.sandbox.cgroups import ControlGroups, Group
from local.sandbox.watchdog import Watchdog, Watched
from orchestrator_runtime.contract.instance import Limits

logger = logging.getLogger("sandbox.confinement")

REMOVAL_PAUSE = 0.05  # seconds until the kernel has taken a killed process apart, usually
REMOVAL_TRIES = 100


@dataclass(slots=True)
class Held:
    """The hold on one sandbox: `entrances` and `cpus` are for the process itself, before any code of others runs."""

    limits: Limits
    cpus: tuple[int, ...]
    group: Group
    watchdog: Watchdog | None
    watched: Watched | None = None

    @property
    def entrances(self) -> tuple[str, ...]:
        return self.group.entrances()

    def limit(self, limits: Limits) -> None:
        """Change what it is held to. Raises `OSError`."""
        self.limits, self.cpus = limits, _cpus(self.group, limits)
        self.group.limit(limits)

    def watch(self, pid: int, pidfd: int) -> None:
        if self.watchdog is not None:
            self.watched = self.watchdog.watch(pid, pidfd, self.limits.memory_bytes)

    def out_of_memory(self) -> bool:
        """Whether it was ended for its memory; to be asked before `release`."""
        return bool(self.watched and self.watched.killed) or self.group.out_of_memory_kills() > 0

    def release(self) -> None:
        """Let go, once the sandbox's first process has ended."""
        if self.watchdog is not None and self.watched is not None:
            self.watchdog.forget(self.watched)
        _remove(self.group, REMOVAL_TRIES)


class Confinement:
    """One per supervisor. `run` must be running for the watchdog to look."""

    def __init__(self, groups: ControlGroups | None = None) -> None:
        self.groups = cgroups.find() if groups is None else groups
        self.groups.sweep()
        self._watchdog = None if "memory" in self.groups.parents else Watchdog()
        self._mover = ThreadPoolExecutor(1, thread_name_prefix="control-groups")

    async def run(self) -> None:
        """Watch until cancelled."""
        if self._watchdog is not None:
            await self._watchdog.run()

    def hold(self, name: str, limits: Limits) -> Held:
        """Prepare to hold a sandbox; `name` is unique on this machine. Raises `OSError`."""
        group = self.groups.create(name, limits)
        group.end_as_one()
        return Held(limits, _cpus(group, limits), group, self._watchdog)

    async def hold_next(self, name: str, limits: Limits, *, parent: int, before: Held | None) -> Held:
        """Prepare to hold the next process that `parent` forks: `parent` itself is moved there from `before`.

        Raises `OSError`, `ProcessLookupError` if `parent` has gone.
        """
        group = self.groups.create(name, limits)
        held = Held(limits, _cpus(group, limits), group, self._watchdog)
        try:
            await self._move(parent, group)
        except BaseException:
            held.release()
            raise
        if before is not None:
            with contextlib.suppress(OSError):  # what was forked has gone already
                before.group.end_as_one()  # now that `parent` would not end with it
        return held

    async def _move(self, pid: int, group: Group) -> None:
        # In a thread, as the kernel makes whoever moves a process wait. It does nothing else: a child that the
        # supervisor forks meanwhile finds no lock taken.
        await asyncio.get_running_loop().run_in_executor(self._mover, group.add, pid)


def _cpus(group: Group, limits: Limits) -> tuple[int, ...]:
    """The processors of a sandbox whose group does not hold it to its share."""
    return () if "cpu" in group.places else some_cpus(limits.cpu)


def some_cpus(share: float) -> tuple[int, ...]:
    """As many processors as `share` needs, picked at random so that sandboxes spread; none if it needs all."""
    available = sorted(os.sched_getaffinity(0))
    wanted = max(1, math.ceil(share))
    return () if wanted >= len(available) else tuple(random.sample(available, wanted))


def _remove(group: Group, tries: int) -> None:
    if group.remove():
        return
    if tries == 0:
        logger.warning("the control group %s cannot be removed", group.folders[0])
        return
    asyncio.get_running_loop().call_later(REMOVAL_PAUSE, _remove, group, tries - 1)
