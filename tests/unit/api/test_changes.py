"""Watchers hear of changes, and leave nothing behind."""

from __future__ import annotations

import asyncio

from control_api.changes import Changes, any_set


async def test_every_watcher_of_a_topic_is_woken_and_no_other() -> None:
    changes = Changes()
    with changes.watch("a") as one, changes.watch("a", "b") as both, changes.watch("c") as other:
        changes.publish("b", "nobody watches this")
        assert (one.is_set(), both.is_set(), other.is_set()) == (False, True, False)
        changes.publish("a")
        assert one.is_set()


async def test_who_has_gone_is_forgotten() -> None:
    changes = Changes()
    with changes.watch("a") as one:
        with changes.watch("a"):
            pass
        changes.publish("a")
    assert one.is_set()
    assert not changes._watchers


async def test_one_of_several_events_is_enough() -> None:
    one, other = asyncio.Event(), asyncio.Event()
    waiting = asyncio.create_task(any_set(one, other))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.set()
    await waiting
