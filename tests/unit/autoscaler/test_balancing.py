"""Which instance gets a call, by the concurrency limit: Knative's policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from local.gateway.balancing import choose


@dataclass
class Instance:
    in_flight: int


def numbers(*values: float) -> Callable[[], float]:
    return iter(values).__next__


def test_without_an_instance_there_is_none() -> None:
    assert choose([], limit=0, turn=0, random=numbers()) is None


def test_without_a_limit_the_less_loaded_of_two_random_ones_is_taken() -> None:
    instances = [Instance(5), Instance(1), Instance(9)]
    assert choose(instances, limit=0, turn=0, random=numbers(0.0, 0.9)) is instances[0]  # of the first and the third
    assert choose(instances, limit=0, turn=0, random=numbers(0.0, 0.0)) is instances[1]  # of the first and the second
    assert choose(instances[:1], limit=0, turn=0, random=numbers()) is instances[0]


def test_the_two_are_never_the_same() -> None:
    instances = [Instance(1), Instance(1)]
    assert choose(instances, limit=0, turn=0, random=numbers(0.6, 0.99)) is instances[1]


def test_with_a_small_limit_the_first_with_room_is_taken() -> None:
    instances = [Instance(3), Instance(2), Instance(0)]
    assert choose(instances, limit=3, turn=7, random=numbers()) is instances[1]


def test_with_a_larger_limit_they_take_turns() -> None:
    instances = [Instance(0), Instance(0), Instance(0)]
    chosen = [choose(instances, limit=10, turn=turn, random=numbers()) for turn in range(4)]
    assert chosen == [instances[0], instances[1], instances[2], instances[0]]


def test_a_full_one_is_passed_over_and_when_all_are_full_there_is_none() -> None:
    instances = [Instance(10), Instance(3)]
    assert choose(instances, limit=10, turn=0, random=numbers()) is instances[1]
    assert choose([Instance(10)], limit=10, turn=0, random=numbers()) is None
