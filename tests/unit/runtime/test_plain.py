"""What a plain function gets, what becomes of what it returns, and where it works."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from orchestrator_runtime import Run
from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.frameworks import plain
from orchestrator_runtime.frameworks.adapter import Answer, Input
from orchestrator_runtime.frameworks.current import running
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.integration.runtime.world import create_start

if TYPE_CHECKING:
    from decimal import Decimal


async def answer(function: Callable[..., Any], value: Any = None, **options: Any) -> Answer:
    """What comes of a call, after all of it is recorded, as the server waits for it."""
    call, _ = create_call(value, **options)
    with running(call) as active:
        answered = await plain.load(function, create_start()).run(call)
        await active.settle()
    return answered


async def result(function: Callable[..., Any], value: Any = None, **options: Any) -> bytes:
    return (await answer(function, value, **options)).body


class Order(BaseModel):
    number: int = 1


@dataclass
class Text:
    text: str
    sentences: int = 2


def untyped(given):  # type: ignore[no-untyped-def]
    return given


def nothing() -> str:
    return "nothing"


def any_value(given: Any) -> Any:
    return given


def model(order: Order) -> Any:
    return order.number + 1


def record(text: Text) -> Any:
    return [text.text, text.sentences]


def numbers(given: list[int]) -> Any:
    return sum(given)


def default(given: int = 7) -> Any:
    return given


def whole(given: Input) -> Any:
    return given.body.decode()


def run_too(given: Any, run: Run) -> Any:
    return [given, run.attempt, run.session, run.cancelled]


def run_by_name(given, run):  # type: ignore[no-untyped-def]
    return run.attempt


def run_only(run: Run) -> Any:
    return Run.current().id == run.id


def unresolvable(given: Decimal, run: Run) -> Any:
    return [given, run.attempt]


def more_defaults(given: Any, other: int = 3) -> Any:
    return other


class Callee:
    async def __call__(self, given: list[int]) -> Any:
        return len(given)


async def coroutine(given: Any) -> Any:
    return given


def returns_awaitable(given: Any) -> Any:
    return coroutine(given)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (untyped, {"a": 1}, b'{"a":1}'),
        (nothing, 1, b"nothing"),
        (any_value, [1], b"[1]"),
        (model, {"number": "2"}, b"3"),
        (record, {"text": "t"}, b'["t",2]'),
        (numbers, [1, 2], b"3"),
        (whole, {"a": 1}, b'{"a": 1}'),
        (run_too, 1, b'[1,1,"s",false]'),
        (run_by_name, 1, b"1"),
        (run_only, 1, b"true"),
        (unresolvable, 1, b"[1,1]"),
        (more_defaults, 1, b"3"),
        (Callee(), [1, 2], b"2"),
        (functools.partial(more_defaults, other=4), 1, b"4"),
        (coroutine, 1, b"1"),
        (returns_awaitable, 1, b"1"),
        (lambda given: (given, 201), 1, b"1"),
    ],
)
async def test_a_function_gets_what_its_signature_says(
    function: Callable[..., Any], value: Any, expected: bytes
) -> None:
    assert await result(function, value, run=FakeRunContext(session="s")) == expected


async def test_no_body_is_none_or_the_default() -> None:
    assert await result(any_value, given=Input(b"")) == b"null"
    assert await result(default, given=Input(b"")) == b"7"


@pytest.mark.parametrize(
    ("function", "value", "field"),
    [(model, {"number": "many"}, "number"), (numbers, [1, "x"], "1"), (record, {}, "text"), (numbers, None, "")],
)
async def test_input_of_another_shape_names_the_field(function: Callable[..., Any], value: Any, field: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        await answer(function, value)
    assert caught.value.extra["errors"][0]["field"] == field
    assert caught.value.code == "input_invalid"


async def test_a_body_that_is_no_json_is_bad_input() -> None:
    with pytest.raises(BadInput, match="not JSON"):
        await answer(any_value, given=Input(b"{"))


def three(a: Any, b: Any, c: Any) -> Any:
    return [a, b, c]


@pytest.mark.parametrize("target", [3, "text", three, dict])
def test_what_cannot_be_called_with_an_input_is_refused(target: object) -> None:
    with pytest.raises(AgentError) as caught:
        plain.load(target, create_start())
    assert caught.value.code == "entrypoint_wrong_framework"


def test_an_object_of_a_framework_is_told_which() -> None:
    graph = type("Graph", (), {"__module__": "langgraph.graph"})()
    with pytest.raises(AgentError) as caught:
        plain.load(graph, create_start())
    assert "framework: langgraph" in caught.value.hint


# generators


async def test_what_a_generator_yields_is_streamed_and_joined() -> None:
    async def asynchronous(given: int) -> AsyncIterator[str]:
        for number in range(given):
            yield str(number)

    def blocking(given: int) -> Iterator[bytes]:
        for number in range(given):
            yield b"%d" % number

    for function, pieces in ((asynchronous, ["0", "1"]), (blocking, [b"0", b"1"])):
        call, emitted = create_call(2)
        assert (await plain.load(function, create_start()).run(call)).body == b"01"
        assert emitted == []
        if function is asynchronous:
            call, emitted = create_call(2, stream=True)
            await plain.load(function, create_start()).run(call)
            assert emitted == [("message", piece) for piece in pieces]


async def test_a_generator_of_nothing_is_an_empty_list() -> None:
    def blocking(given: int) -> Iterator[bytes]:
        yield from ()

    assert await result(blocking, 1) == b"[]"


# threads

tenant: ContextVar[str] = ContextVar("tenant")


async def test_blocking_functions_work_in_threads_with_the_context_of_their_caller() -> None:
    tenant.set("ours")

    def where(given: Any) -> Any:
        return [tenant.get(), threading.current_thread() is threading.main_thread()]

    assert await result(where) == b'["ours",false]'


async def test_as_many_blocking_calls_work_at_once_as_the_limit_says() -> None:
    both = threading.Barrier(2)

    def meet(given: Any) -> Any:
        both.wait(10)
        return "met"

    agent = plain.load(meet, create_start(concurrency=2))
    answers = await asyncio.gather(*(agent.run(create_call()[0]) for _ in range(2)))
    assert [each.body for each in answers] == [b"met", b"met"]


async def test_a_call_that_is_stopped_before_a_thread_is_free_never_begins() -> None:
    began, go_on = threading.Event(), threading.Event()
    calls: list[Any] = []

    def handle(given: Any) -> None:
        calls.append(given)
        began.set()
        go_on.wait()

    agent = plain.load(handle, create_start(concurrency=1))
    first = asyncio.ensure_future(agent.run(create_call(1)[0]))
    await asyncio.to_thread(began.wait)
    second = asyncio.ensure_future(agent.run(create_call(2)[0]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second, return_exceptions=True)
    assert second.cancelled()
    assert calls == [1]


# steps


async def test_a_step_is_recorded_and_answered_in_a_later_attempt() -> None:
    done: list[Any] = []

    def effect(text: str, *, times: int = 1) -> set[str]:
        done.append(text)
        return {text * times}

    async def later(text: str) -> str:
        done.append(text)
        return text.upper()

    async def handle(given: Any, run: Run) -> Any:
        return [sorted(run.step("effect", effect, "a", times=2)), await run.step("later", later, "b")]

    def blocking(given: Any, run: Run) -> Any:
        return sorted(run.step("effect", effect, "a", times=2))

    for function, expected, effects in ((handle, b'[["aa"],"B"]', ["a", "b"]), (blocking, b'["aa"]', ["a"])):
        done.clear()
        journal = Journal()
        for attempt in (1, 2):
            assert await result(function, run=FakeRunContext(journal, run="r", attempt=attempt)) == expected
        assert done == effects
        assert {step["kind"] for step in journal.steps()} == {"function"}


async def test_a_step_with_other_arguments_or_one_that_failed_is_done_again() -> None:
    done: list[Any] = []

    def effect(value: Any) -> Any:
        done.append(value)
        if value == "fails":
            raise ValueError(value)
        return value

    async def failing(value: Any) -> None:
        effect(value)

    async def handle(given: Any, run: Run) -> Any:
        run.step("effect", effect, run.attempt)
        with pytest.raises(ValueError, match="fails"):
            run.step("effect", effect, "fails")
        with pytest.raises(ValueError, match="fails"):
            await run.step("failing", failing, "fails")

    journal = Journal()
    for attempt in (1, 2):
        await result(handle, run=FakeRunContext(journal, run="r", attempt=attempt))
    assert done == [1, "fails", "fails", 2, "fails", "fails"]
    assert [step["state"] for step in journal.steps()] == ["succeeded", "failed", "failed"] * 2


async def test_a_result_that_cannot_be_kept_is_made_again() -> None:
    made: list[Any] = []

    def lock(kind: type) -> Any:
        made.append(kind)
        return threading.Lock()

    async def lock_later() -> Any:
        return lock(object)

    async def handle(given: Any, run: Run) -> Any:
        return [run.step("lock", lock, int).locked(), (await run.step("later", lock_later)).locked()]

    journal = Journal()
    for attempt in (1, 2):
        assert await result(handle, run=FakeRunContext(journal, run="r", attempt=attempt)) == b"[false,false]"
    assert len(made) == 4


def test_outside_of_a_run_there_is_none() -> None:
    with pytest.raises(RuntimeError, match="no run"):
        Run.current()


async def test_the_attributes_of_a_cloud_event_are_the_run_s() -> None:
    async def handle(given: Any, run: Run) -> Any:
        return [given, run.event and run.event["type"]]

    attributes = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed"}
    assert await result(handle, given=Input(body=b"7", attributes=attributes)) == b'[7,"order.placed"]'
    assert await result(handle, 7) == b"[7,null]"
