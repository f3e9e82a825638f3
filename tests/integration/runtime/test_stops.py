"""What ends a run before its code does, and what does not: a cancel, its time, a caller that goes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from orchestrator_runtime import Run
from tests.integration.runtime.world import create_world


async def test_a_cancelled_run_says_so() -> None:
    async def handle(given: Any) -> Any:
        await asyncio.Event().wait()

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1, orchestrator_run_id="r-1"))
        await world.journal.until(lambda: "admit" in world.journal.received)
        world.journal.cancel("r-unknown")
        world.journal.cancel("r-1")
        assert ((await answer).status_code, (await answer).json()["code"]) == (499, "cancelled")
        assert (world.only_run().state, world.only_run().ending["retryable"]) == ("cancelled", False)


async def test_blocking_code_can_see_that_its_run_is_cancelled() -> None:
    began = threading.Event()

    def handle(given: Any, run: Run) -> Any:
        began.set()
        while not run.cancelled:
            time.sleep(0)
        raise ValueError("left")

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1, orchestrator_run_id="r-1"))
        await asyncio.to_thread(began.wait)
        world.journal.cancel("r-1")
        assert (await answer).json()["code"] == "cancelled"


async def test_a_blocking_generator_is_left_between_two_pieces_when_its_run_is_cancelled() -> None:
    began = threading.Event()

    def handle(given: Any) -> Iterator[int]:
        while True:
            began.set()
            yield 1

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1, orchestrator_run_id="r-1"))
        await asyncio.to_thread(began.wait)
        world.journal.cancel("r-1")
        assert (await answer).json()["code"] == "cancelled"


async def test_a_run_whose_time_is_over_is_ended_and_may_be_retried() -> None:
    async def handle(given: Any) -> Any:
        await asyncio.Event().wait()

    async with create_world(handle, timeout=0.01) as world:
        answer = await world.call(1)
        assert (answer.status_code, answer.json()["code"]) == (504, "run_timed_out")
        assert world.only_run().ending["retryable"] is True


async def test_code_that_does_not_stop_costs_its_instance() -> None:
    go_on = threading.Event()
    began = threading.Event()

    def handle(given: Any) -> Any:
        began.set()
        go_on.wait()
        return "went on"

    async with create_world(handle, grace=0.01) as world:
        answer = asyncio.ensure_future(world.call(1, orchestrator_run_id="r-1"))
        await asyncio.to_thread(began.wait)
        world.journal.cancel("r-1")
        while not world.stuck:
            await asyncio.sleep(0)
        assert world.stuck == ["r-1"]
        go_on.set()
        assert (await answer).json()["code"] == "cancelled"


async def test_a_second_cancel_does_not_give_up_the_wait_for_code_that_goes_on() -> None:
    go_on = threading.Event()
    began = threading.Event()

    def handle(given: Any) -> Any:
        began.set()
        go_on.wait()

    async with create_world(handle, grace=0.01) as world:
        answer = asyncio.ensure_future(world.call(1, orchestrator_run_id="r-1"))
        await asyncio.to_thread(began.wait)
        world.journal.cancel("r-1")
        world.journal.cancel("r-1")
        while not world.stuck:
            await asyncio.sleep(0)
        assert (world.stuck, world.only_run().state) == (["r-1"], "running")
        go_on.set()
        assert (await answer).json()["code"] == "cancelled"


async def test_a_caller_that_goes_away_ends_nothing() -> None:
    go_on = asyncio.Event()

    async def handle(given: Any) -> Any:
        await go_on.wait()
        return given

    async with create_world(handle) as world:
        answer = asyncio.ensure_future(world.call(1))
        await world.journal.until(lambda: "admit" in world.journal.received)
        answer.cancel()
        await asyncio.wait([answer])
        go_on.set()
        await world.journal.until(lambda: "end" in world.journal.received)
        assert world.only_run().answer == b"1"


async def test_a_request_that_breaks_off_is_no_run() -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        raise ConnectionError

    async with create_world(lambda given: given) as world:
        with pytest.raises(ConnectionError):
            await world.call(content=half())
        assert world.journal.runs == {}
