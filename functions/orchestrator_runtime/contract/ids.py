"""Identifiers: time-ordered, so that they sort by creation and index well (RFC 9562, UUID version 7).

Those of one process sort in the order in which they were made, also within a millisecond and when the clock goes back:
the 12 bits after the milliseconds are a counter that overflows into them (RFC 9562 §6.2, method 1). Runs of a session
that are admitted in one batch go in this order.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

COUNTER_BITS = 12


class Uuid7:
    """Makes identifiers; `now` gives nanoseconds since the epoch. May be called from any thread, also after a fork."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._last = 0  # milliseconds and counter
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """A new UUIDv7 in its canonical text form: 48 bits of milliseconds, 12 of the counter, 62 random ones."""
        with self._lock:
            stamp = self._last = max(self._now() // 1_000_000 << COUNTER_BITS, self._last + 1)
        head = f"{stamp:015x}"
        tail = f"{int.from_bytes(os.urandom(8)) >> 2 | 0b10 << 62:016x}"
        return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{tail[:4]}-{tail[4:]}"


uuid7 = Uuid7()
