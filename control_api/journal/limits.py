"""What instances may take of the server's memory: bytes that it holds for them until they are written or read.

Each instance has a small share that nobody can take from it, so that its runs go on whatever others of its organization
do. What goes beyond comes out of the organization's pool; who finds that empty is not read until there is room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
HEADER_WEIGHT = 16  # a header becomes Python's values, which take up to so many times its bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    early_frame: int = 64 * KIBIBYTE  # before hello, and all that may come before it is answered
    early_connections: int = 512  # that have not said hello, of everybody; beyond it some go (`strangers`)
    hello_timeout: float = 10.0
    connections: int = 8  # of one instance; the runtime makes one
    unanswered: int = 1024  # operations of one connection, before it is read no further
    share: int = 4 * MEBIBYTE  # of one instance
    pool: int = 256 * MEBIBYTE  # of an organization; a single frame may be larger, when nothing else is held
    frame_timeout: float = 60.0  # from the grant of a frame's bytes until it is whole
    unread: int = MEBIBYTE  # bytes of replies that wait for an instance to read, before it is asked nothing more
    unread_timeout: float = 30.0  # until it has read them


@dataclass(slots=True)
class Pool:
    """What an organization's instances hold beyond their shares. `waiting` get it in the order in which they asked."""

    limit: int
    held: int = 0
    waiting: dict[Callable[[], None], None] = field(default_factory=dict)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.room.set()

    def take(self, size: int, wake: Callable[[], None]) -> bool:
        """Whether `size` bytes are granted; if not, `wake` is called when it is worth while to ask again."""
        is_first = not self.waiting or next(iter(self.waiting)) == wake
        if is_first and (self.held == 0 or self.held + size <= self.limit):
            self.waiting.pop(wake, None)
            self.add(size)
            self._wake_next()
            return True
        self.waiting[wake] = None
        return False

    def add(self, size: int) -> None:
        """Count bytes that are held already; a negative `size` gives back."""
        self.held += size
        if self.held >= self.limit:
            self.room.clear()
        elif not self.room.is_set():
            self.room.set()
        if size < 0:
            self._wake_next()

    def forget(self, wake: Callable[[], None]) -> None:
        """It does not wait any more; whoever is next may be granted what it was not."""
        if self.waiting.pop(wake, wake) is None:
            self._wake_next()

    def _wake_next(self) -> None:
        if self.waiting:
            next(iter(self.waiting))()


class Account:
    """What one instance holds. `turn` is had by the one large reply that is being made for it."""

    def __init__(self, pool: Pool, *, share: int) -> None:
        self.pool = pool
        self.connections = 0
        self.turn = asyncio.Lock()
        self._share = share
        self._held = 0

    def take(self, size: int, wake: Callable[[], None]) -> bool:
        """As `Pool.take`, out of the share first."""
        if self._held + size > self._share:  # of what every call comes by, this is the rare case
            beyond = self._beyond(size)
            if beyond and not self.pool.take(beyond, wake):
                return False
        self._held += size
        return True

    def add(self, size: int) -> None:
        """Count bytes that are held already; a negative `size` gives back."""
        beyond = self._beyond(size) if max(self._held, self._held + size) > self._share else 0
        self._held += size
        if beyond:
            self.pool.add(beyond)

    def _beyond(self, size: int) -> int:
        """How the part of the pool changes with `size` bytes more."""
        held = self._held
        return max(0, held + size - self._share) - max(0, held - self._share)
