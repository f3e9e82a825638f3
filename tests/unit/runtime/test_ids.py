"""Identifiers sort in the order in which they were made."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from orchestrator_runtime.contract.ids import Uuid7, uuid7

MILLISECOND = 1_000_000  # nanoseconds
NOON = 1_800_000_000_000 * MILLISECOND


class Time:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


def milliseconds(identity: str) -> int:
    return uuid.UUID(identity).int >> 80


def test_an_identifier_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    time = Time()
    make = Uuid7(time)
    for _ in range(100):
        identity = make()
        parsed = uuid.UUID(identity)
        assert (str(parsed), parsed.version, parsed.variant) == (identity, 7, uuid.RFC_4122)
        assert milliseconds(identity) == time.now // MILLISECOND
        time.now += MILLISECOND


def test_those_of_one_millisecond_keep_their_order_also_when_the_counter_overflows() -> None:
    make = Uuid7(Time())
    made = [make() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert milliseconds(made[-1]) == NOON // MILLISECOND + 2


def test_they_keep_their_order_when_the_clock_goes_back() -> None:
    time = Time()
    make = Uuid7(time)
    made = []
    for step in (0, 5, -3_600_000, 1, -1, 3_600_000):
        time.now += step * MILLISECOND
        made += [make() for _ in range(3)]
    assert made == sorted(made)
    assert milliseconds(made[-1]) == NOON // MILLISECOND + 5  # the clock was never wrong by more than it went back


def test_threads_share_one_order_and_no_identifier_is_made_twice() -> None:
    with ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda _: [uuid7() for _ in range(2000)], range(8)))
    for made in runs:
        assert made == sorted(made)
    assert len({identity for made in runs for identity in made}) == 16_000


def test_two_processes_of_one_moment_make_different_ones() -> None:
    time = Time()
    assert Uuid7(time)() != Uuid7(time)()
