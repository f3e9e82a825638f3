"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    def __init__(self, *, monotonic: float = 1000.0) -> None:
        self._elapsed = 0.0
        self._monotonic = monotonic

    def now(self) -> datetime:
        return START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._monotonic + self._elapsed

    def advance(self, seconds: float) -> None:
        self._elapsed += seconds
