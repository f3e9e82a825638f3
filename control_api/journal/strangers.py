"""Connections that have not said hello, and what the log says of those that were refused.

Anybody in a sandbox can open them, so their number is bounded. When there are too many, the oldest one of the process
that has most goes, and not the newest: an instance that is new makes one and says hello at once, and must get in.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
from collections import Counter

from control_api.journal.connection import InstanceConnection
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem, TooMany

logger = logging.getLogger("journal")

CREDENTIALS = struct.Struct("3i")  # process, user and group of who connected (unix(7), SO_PEERCRED)
LOG_INTERVAL = 10.0  # seconds between two lines about refusals of one kind


class Strangers:
    """At most `limit` connections."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._processes: dict[InstanceConnection, int] = {}  # the oldest first
        self._counts: Counter[int] = Counter()

    def came(self, connection: InstanceConnection) -> None:
        process = process_of(connection.descriptor)
        self._processes[connection] = process
        self._counts[process] += 1
        if len(self._processes) > self._limit:
            [(most, _)] = self._counts.most_common(1)
            oldest = next(one for one, process in self._processes.items() if process == most)
            self.left(oldest)
            oldest.refuse(
                TooMany("Too many connections have not said hello", code="journal_crowded", hint="Say it at once.")
            )

    def left(self, connection: InstanceConnection) -> None:
        """It has gone, or has said hello. May come more than once."""
        process = self._processes.pop(connection, None)
        if process is not None:
            self._counts[process] -= 1
            if not self._counts[process]:
                del self._counts[process]


class RefusalLog:
    """One line per kind and interval, so that nobody can fill the log."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}  # when it was last said, and how many there were since

    def note(self, problem: Problem) -> None:
        now = self._clock.monotonic()
        said, count = self._kinds.get(problem.code, (-math.inf, 0))
        if now - said < LOG_INTERVAL:
            self._kinds[problem.code] = (said, count + 1)
            return
        self._kinds[problem.code] = (now, 0)
        logger.warning(
            "connections of instances were closed: %s (%s)",
            problem.detail,
            problem.code,
            extra={"connections": count + 1},
        )


def process_of(descriptor: int) -> int:
    """The number, as this process sees it, of the process that connected to this Unix socket."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        packed = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    finally:
        borrowed.detach()
    return int(CREDENTIALS.unpack(packed)[0])
