"""A call while the journal is away, or has something against it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from orchestrator_runtime import Run
from orchestrator_runtime.contract.errors import Conflict, Unavailable
from tests.integration.runtime.world import create_world


async def test_what_the_journal_refuses_is_refused() -> None:
    async with create_world(lambda given: given) as world:
        world.journal.refusals["admit"] = Unavailable("no room", code="journal_busy")
        answer = await world.call(1)
        assert (answer.status_code, answer.json()["code"]) == (503, "journal_busy")


@pytest.mark.parametrize("operation", ["admit", "append", "end"])
async def test_a_lost_reply_changes_nothing(operation: str) -> None:
    async def handle(given: Any, run: Run) -> Any:
        return await run.step("double", double, given)

    async def double(value: int) -> int:
        return value * 2

    async with create_world(handle) as world:
        world.journal.lose_reply(operation)
        answer = await world.call(2)
        assert answer.json() == 4
        run = world.only_run()
        assert (run.state, run.attempt) == ("succeeded", 1)
        assert run.kinds() == ["step.started", "step.succeeded"]


async def test_a_journal_that_comes_back_gets_the_end_of_what_it_admitted() -> None:
    go_on = asyncio.Event()

    async def handle(given: Any) -> Any:
        await go_on.wait()
        return given

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1))
        await world.journal.until(lambda: "admit" in world.journal.received)
        await world.journal.stop()
        go_on.set()
        await world.journal.start()
        assert (await answer).json() == 1
        assert world.only_run().state == "succeeded"


async def test_an_answer_that_the_journal_does_not_take_is_a_failed_run() -> None:
    async with create_world(lambda given: given) as world:
        world.journal.refusals["end"] = Conflict("too much", code="payload_refused")
        request = asyncio.ensure_future(world.call(1))
        await world.journal.until(lambda: "end" in world.journal.received)
        del world.journal.refusals["end"]
        answer = await request
        assert (answer.status_code, answer.json()["code"]) == (409, "payload_refused")
        assert world.only_run().state == "failed"


async def test_an_attempt_that_lost_its_run_breaks_the_connection_and_says_nothing() -> None:
    stopped: list[bool] = []

    async def handle(given: Any, run: Run) -> Any:
        world.journal.lose(run.id)
        try:
            await run.step("effect", effect)
            await asyncio.Event().wait()
        finally:
            stopped.append(run.cancelled)

    async def effect() -> None:
        """Does nothing."""

    async with create_world(handle) as world:
        with pytest.raises(httpx.RemoteProtocolError):
            await world.call(1)
        assert stopped == [True]
        assert world.only_run().ending is None


async def test_an_answer_that_comes_after_the_run_was_ended_otherwise_is_not_given() -> None:
    """Its time was over, say, and nobody waited for code that does not look: the journal has another answer."""

    def handle(given: Any, run: Run) -> str:
        kept = world.only_run()
        kept.state, kept.ending = "failed", {"state": "failed", "status": 504}
        return "too late"

    async with create_world(handle) as world:
        with pytest.raises(httpx.RemoteProtocolError):
            await world.call(1)


async def test_a_dispatched_attempt_that_lost_its_run_says_so_quietly() -> None:
    async with create_world(lambda given, run: world.journal.lose(run.id)) as world:
        world.journal.submit("r-1", b"1")
        answer = await world.call(1, orchestrator_run_id="r-1", orchestrator_dispatch="1")
        assert answer.status_code == 204
