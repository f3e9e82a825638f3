"""Who holds how much, and who is next when there is room again."""

from __future__ import annotations

from collections.abc import Callable

from control_api.journal.limits import Account, Pool


def caller(name: str, woken: list[str]) -> Callable[[], None]:
    return lambda: woken.append(name)


def test_a_share_is_nobody_else_s_and_what_goes_beyond_comes_out_of_the_pool() -> None:
    woken: list[str] = []
    pool = Pool(100)
    first, second = Account(pool, share=10), Account(pool, share=10)
    assert first.take(100, caller("first", woken))
    assert pool.held == 90
    assert second.take(10, caller("second", woken))
    assert not second.take(11, caller("second", woken))
    second.add(-10)
    first.add(-100)
    assert (pool.held, woken) == (0, ["second"])


def test_something_larger_than_the_pool_is_taken_when_nothing_else_is_held() -> None:
    pool = Pool(100)
    assert pool.take(500, caller("large", []))
    assert not pool.room.is_set()
    pool.add(-500)
    assert pool.room.is_set()


def test_who_asked_first_is_served_first() -> None:
    woken: list[str] = []
    pool, large, small = Pool(100), caller("large", woken), caller("small", woken)
    pool.add(50)
    assert not pool.take(80, large)
    assert not pool.take(10, small)  # it would fit, but then the large one might wait for ever
    pool.add(-50)
    assert woken == ["large"]
    assert pool.take(80, large)
    assert woken == ["large", "small"]
    assert pool.take(10, small)


def test_one_that_has_gone_keeps_nobody_waiting() -> None:
    woken: list[str] = []
    pool, gone, next_one = Pool(100), caller("gone", woken), caller("next", woken)
    pool.add(50)
    assert not pool.take(80, gone)
    assert not pool.take(10, next_one)
    pool.forget(gone)
    pool.forget(gone)
    assert woken == ["next"]
    assert pool.take(10, next_one)
