"""Which instance gets the next call: Knative's three policies, by concurrency limit. Pure; the randomness is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """What balancing looks at."""

    @property
    def in_flight(self) -> int: ...


T = TypeVar("T", bound=Loaded)

FIRST_AVAILABLE_UPTO = 3


def choose(instances: Sequence[T], *, limit: int, turn: int, random: Callable[[], float]) -> T | None:
    """An instance with room for one more call, or None. `turn` counts calls, for round robin.

    limit 0 (none): the less loaded of two random ones; up to 3: the first with room; else round robin.
    """
    count = len(instances)
    if count == 0:
        return None
    if limit == 0:
        if count == 1:
            return instances[0]
        first = int(random() * count)
        second = int(random() * (count - 1))
        second += second >= first
        one, other = instances[first], instances[second]
        return one if one.in_flight <= other.in_flight else other
    start = 0 if limit <= FIRST_AVAILABLE_UPTO else turn % count
    for offset in range(count):
        candidate = instances[(start + offset) % count]
        if candidate.in_flight < limit:
            return candidate
    return None
