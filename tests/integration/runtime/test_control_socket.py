"""What the supervisor tells an instance: to drain, and its fresh token."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.runtime.world import create_world


async def test_a_drain_finishes_what_runs_and_then_ends() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def handle(given: Any) -> Any:
        began.set()
        await go_on.wait()
        return given

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1))
        await began.wait()
        world.tell("drain")
        while True:  # until nobody listens
            try:
                _, writer = await asyncio.open_unix_connection(world.folder / "instance.sock")
            except OSError:
                break
            writer.close()
        go_on.set()
        assert (await answer).json() == 1
        await world.ended


async def test_a_supervisor_that_is_gone_is_a_drain() -> None:
    async with create_world(lambda given: given) as world:
        await world.call(1)
        world.control.close()
        await world.ended


async def test_a_fresh_token_is_told_to_the_journal() -> None:
    async with create_world(lambda given: given) as world:
        await world.call(1)
        world.journal.token = "fresh"
        world.tell("token", journal_token="fresh")
        await world.journal.until(lambda: world.journal.received.count("hello") == 2)
        await world.journal.stop()
        await world.journal.start()
        assert (await world.call(2)).json() == 2
