"""Recorded effects: what is packed, what is answered, and from which threads and loops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.calls import MISSING, RecordedCall, pack, unpack
from orchestrator_runtime.frameworks.current import current, running
from orchestrator_runtime.frameworks.values import encode
from tests.fakes.run_context import FakeRunContext, Journal, create_call


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": None}], {"a": [1.5]}])
def test_json_is_kept_as_json(value: Any) -> None:
    packed = pack(value)
    assert packed == {"value": value}
    assert unpack(encode(packed)) == value


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, {"a", "b"}, b"bytes", StepKind.TOOL])
def test_other_values_are_kept_as_they_are(value: Any) -> None:
    packed = pack(value)
    again = unpack(encode(packed))
    assert again == value
    assert type(again) is type(value) or packed == {"value": value}


def test_what_cannot_be_kept_is_only_shown() -> None:
    packed = pack(lambda: None)
    assert "lambda" in packed["shown"]
    assert unpack(encode(packed)) is MISSING


def test_a_list_that_holds_itself_is_kept_too() -> None:
    value: list[Any] = [1]
    value.append(value)
    again = unpack(encode(pack(value)))
    assert again[1] is again


def begin(name: str = "send") -> RecordedCall:
    active = current()
    assert active is not None
    return RecordedCall(active, name, StepKind.TOOL, b"arguments")


async def test_calls_are_counted_within_the_place_where_they_are_made() -> None:
    context = FakeRunContext()
    with running(create_call(run=context)[0]) as active:
        first = begin()
        active.place = lambda: ("node:2", "step-7")
        second = begin()
    assert (first.identity["name"], second.identity["name"]) == ("send", "send@node:2")
    assert [step["parent"] for step in context.journal_.steps()] == [None, "step-7"]


async def test_a_call_in_another_loop_is_committed_in_the_runs_own() -> None:
    journal = Journal()

    async def work() -> bytes | None:
        call = begin()
        if call.answer is None:
            await call.succeed(pack("sent"))
        failing = begin("fail")
        await failing.fail(ValueError("no"))
        return call.answer

    for attempt in (1, 2):
        with running(create_call(run=FakeRunContext(journal, run="run-1", attempt=attempt))[0]) as active:
            answer = await asyncio.to_thread(lambda: asyncio.run(work()))
            await active.settle()
    assert answer is not None
    assert unpack(answer) == "sent"
    assert [(step["name"], step["state"]) for step in journal.steps()] == [
        ("send", "succeeded"),
        ("fail", "failed"),
        ("fail", "failed"),
    ]


async def test_an_answered_call_has_no_step_and_failing_it_is_nothing() -> None:
    journal = Journal()
    with running(create_call(run=FakeRunContext(journal, run="run-1"))[0]):
        call = begin()
        assert call.step is not None
        await call.succeed(pack(1))
    with running(create_call(run=FakeRunContext(journal, run="run-1", attempt=2))[0]) as active:
        call = begin()
        assert call.step is None
        await call.fail(ValueError("late"))
        call.abandon(ValueError("late"))
        await asyncio.to_thread(call.fail_blocking, ValueError("late"))
        await active.settle()
    assert [step["state"] for step in journal.steps()] == ["succeeded"]


async def test_waiting_in_the_loops_own_thread_is_refused_instead_of_hanging() -> None:
    async def work() -> int:
        return 1

    with running(create_call()[0]) as active:
        with pytest.raises(RuntimeError, match="asynchronous twin"):
            active.wait(work())
        assert await asyncio.to_thread(lambda: active.wait(work())) == 1


async def test_what_failed_later_is_raised_when_all_is_settled() -> None:
    async def fail() -> None:
        raise ConnectionError("the journal is gone")

    with running(create_call()[0]) as active:
        await asyncio.to_thread(lambda: active.later(fail()))
        with pytest.raises(ConnectionError):
            await active.settle()


async def test_pieces_of_a_stream_keep_their_order_from_any_thread() -> None:
    call, emitted = create_call(stream=True)
    with running(call) as active:

        def tell_all() -> None:
            for number in range(20):
                active.tell("piece", number)

        await asyncio.to_thread(tell_all)
        await active.settle()
    assert [value for _, value in emitted] == list(range(20))


async def test_a_run_within_itself_is_the_same_and_outside_there_is_none() -> None:
    call, _ = create_call()
    with running(call) as outer, running(call) as inner:
        assert inner is outer
    assert current() is None
