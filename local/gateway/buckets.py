"""Token buckets: how often each of many may do something. Pure; times are seconds of a monotonic clock."""

from __future__ import annotations


class Buckets:
    """A bucket for each key, which holds `burst` tokens and gets `rate` new ones a second.

    What is kept of a bucket is one number, the moment when it is full again (the generic cell rate algorithm, ITU-T
    I.371); of a full one, nothing.
    """

    __slots__ = ("_every", "_full_at", "_slack")

    def __init__(self, rate: float, *, burst: float) -> None:
        self._every = 1 / rate
        self._slack = (burst - 1) / rate
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str, now: float) -> float:
        """Seconds until this bucket has a token; 0 if it has one."""
        return max(0.0, self._full_at.get(key, now) - self._slack - now)

    def take(self, key: str, now: float) -> float:
        """Take a token. If there is none, nothing is taken, and the seconds until there is one are returned."""
        full_at = self._full_at.get(key, now)
        if full_at < now:
            full_at = now
        elif full_at - self._slack > now:
            return full_at - self._slack - now
        self._full_at[key] = full_at + self._every
        return 0.0

    def forget(self, now: float) -> None:
        """Drop the buckets that are full again. To be called again and again."""
        if self._full_at:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
