"""Keeps sandboxes within their memory where no control group can: measures, and ends what is over its limit.

Measured is the proportional set size, because instances share most of their pages with their zygote; it is only asked
for when the resident size, which is cheap to read and never smaller, is over the limit.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.1  # seconds between two looks
PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1024


@dataclass(slots=True)
class Watched:
    """A sandbox by its first process; `killed` when the watchdog has ended it for its memory."""

    pid: int
    pidfd: int
    limit: int  # bytes
    killed: bool = field(default=False)


def over_limit(limits: Mapping[int, int], resident: Mapping[int, int], share: Callable[[int], int]) -> list[int]:
    """Which of the sandboxes (by pid) use more than their limit.

    `share(pid)` is the proportional size; it is expensive, and only asked for where the resident size leaves doubt.
    """
    doubtful = [pid for pid, limit in limits.items() if resident.get(pid, 0) > limit]
    return [pid for pid in doubtful if share(pid) > limits[pid]]


class Watchdog:
    """All sandboxes of this machine that no control group limits."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}
        self._something = asyncio.Event()

    def watch(self, pid: int, pidfd: int, limit: int) -> Watched:
        watched = self._watched[pid] = Watched(pid, os.dup(pidfd), limit)
        self._something.set()
        return watched

    def forget(self, watched: Watched) -> None:
        if self._watched.pop(watched.pid, None) is not None:
            os.close(watched.pidfd)

    async def run(self) -> None:
        """Look again and again, and not at all while there is nothing to watch; cancelled by whoever started it."""
        while True:
            await self._something.wait()
            self.look()
            if not self._watched:
                self._something.clear()
            await asyncio.sleep(INTERVAL)

    def look(self) -> None:
        """Measure once, and end what is over its limit."""
        limits = {watched.pid: watched.limit for watched in self._watched.values()}
        resident = {pid: sum(_resident(member) for member in process_tree(pid)) for pid in limits}
        for pid in over_limit(limits, resident, lambda pid: sum(map(_proportional, process_tree(pid)))):
            watched = self._watched[pid]
            watched.killed = True
            try:
                signal.pidfd_send_signal(watched.pidfd, signal.SIGKILL)
            except ProcessLookupError:  # it ended by itself in the meantime
                watched.killed = False


def process_tree(pid: int) -> Iterable[int]:
    """A process and all that descend from it. Orphans of a pid namespace are children of its first process."""
    pending = [pid]
    while pending:
        current = pending.pop()
        yield current
        try:
            for task in Path(f"/proc/{current}/task").iterdir():
                pending += map(int, (task / "children").read_text().split())
        except OSError:  # it ended while we looked
            continue


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):  # it has gone
        return 0


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has gone
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss:", "SwapPss:"))) * KIB
