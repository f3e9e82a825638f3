"""Which calls are one run: keys, identities, sessions, and what a run keeps of its request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from orchestrator_runtime import Run
from orchestrator_runtime.contract.headers import KEPT_BYTES
from orchestrator_runtime.frameworks.adapter import Input
from tests.integration.runtime.world import create_world


async def test_an_idempotency_key_is_worked_on_once_and_answered_again() -> None:
    calls = []

    def handle(given: Any) -> Any:
        calls.append(given)
        return {"number": len(calls)}, 201, {"x-a": "b"}

    async with create_world(handle) as world:
        first = await world.call(1, idempotency_key="k")
        again = await world.call(1, idempotency_key="k")
        assert calls == [1]
        assert (again.status_code, again.content, again.headers["x-a"]) == (201, first.content, "b")
        assert again.headers["orchestrator-run"] == first.headers["orchestrator-run"]
        other = await world.call(2, idempotency_key="k")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_recorded_failure_is_answered_again() -> None:
    calls = []

    def handle(given: Any) -> Any:
        calls.append(given)
        raise ValueError("no")

    async with create_world(handle) as world:
        first = await world.call(1, idempotency_key="k")
        again = await world.call(1, idempotency_key="k")
        assert (again.status_code, again.json()) == (500, first.json())
        assert len(calls) == 1


async def test_the_same_call_that_comes_twice_is_worked_on_once() -> None:
    calls = []
    go_on = asyncio.Event()

    async def handle(given: Any) -> Any:
        calls.append(given)
        await go_on.wait()
        return len(calls)

    async with create_world(handle) as world, asyncio.TaskGroup() as group:
        answers = [group.create_task(world.call(1, orchestrator_run_id="r-1")) for _ in range(2)]
        await world.journal.until(lambda: world.journal.received.count("admit") == 2)
        go_on.set()
        assert [(await answer).json() for answer in answers] == [1, 1]


async def test_a_dispatched_run_is_worked_on_as_it_was_recorded() -> None:
    def handle(given: Input, run: Run) -> Any:
        return {"path": given.path, "body": given.value(), "session": run.session, "attempt": run.attempt}

    async with create_world(handle) as world:
        world.journal.submit("r-9", b'"recorded"', path="/a%20b")
        answer = await world.call(
            content=b'"recorded"', path="/other", orchestrator_run_id="r-9", orchestrator_dispatch="1"
        )
        assert answer.json() == {"path": "/a b", "body": "recorded", "session": None, "attempt": 1}
        assert world.journal.runs["r-9"].state == "succeeded"


def headers_of(given: Input) -> dict[str, str]:
    return dict(given.headers)


async def test_a_dispatched_run_has_its_headers_but_no_credentials_and_none_of_the_carrier() -> None:
    async with create_world(headers_of) as world:
        own = {"x_github_event": "push", "accept_language": "de", "orchestrator_session": "s-1"}
        credentials = {"authorization": "Bearer mine", "cookie": "a=b", "x_forwarded_for": "192.0.2.1"}
        first = await world.call(1, orchestrator_run_id="r-1", x_correlation_id="c-1", **own, **credentials)
        assert first.json()["authorization"] == "Bearer mine"
        kept = world.only_run().admission["headers"]
        world.journal.retry("r-1")
        carried = {"orchestrator_run_id": "r-1", "x_correlation_id": "c-1", "x_carrier": "yes"}
        again = (await world.call(orchestrator_dispatch="1", **carried)).json()
        assert again == {**kept, "content-type": "application/json", "x-correlation-id": "c-1"}
        assert (again["x-github-event"], again["accept-language"], again["orchestrator-session"]) == (
            "push",
            "de",
            "s-1",
        )
        assert not {"authorization", "cookie", "x-forwarded-for", "orchestrator-call-token", "x-carrier"} & set(again)


async def test_more_headers_than_are_kept_are_not_recorded() -> None:
    async with create_world(lambda given: given) as world:
        await world.call(1, **{f"x_{number}": "v" * 4000 for number in range(8)})
        kept = world.only_run().admission["headers"]
        assert {"x-0", "x-1", "x-2"} <= set(kept)
        assert sum(len(name) + len(value) for name, value in kept.items()) <= KEPT_BYTES


async def test_a_run_that_was_streamed_is_streamed_to_nobody_when_it_is_dispatched() -> None:
    async def handle(given: Any) -> AsyncIterator[str]:
        yield "Hel"
        yield "lo"

    async with create_world(handle) as world:
        assert (await world.call(1, accept="text/event-stream")).headers["content-type"] == "text/event-stream"
        request = world.only_run().admission["request"]
        assert request["stream"] is True
        world.journal.submit("r-2", b"1", **request)
        again = await world.call(orchestrator_run_id="r-2", orchestrator_dispatch="1")
        assert again.text == "Hello"


async def test_an_event_keeps_its_attributes_when_it_is_dispatched_again() -> None:
    def handle(given: Input) -> Any:
        return [given.value(), given.attributes]

    event = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t"}
    async with create_world(handle) as world:
        first = await world.call({"a": 1}, orchestrator_run_id="r-1", **event)
        assert world.only_run().admission["trigger"] == "event"
        request = world.only_run().admission["request"]
        world.journal.submit("r-2", b'{"a":1}', **request)
        again = await world.call(orchestrator_run_id="r-2", orchestrator_dispatch="1")
        assert first.json() == again.json()
        assert first.json()[1]["type"] == "t"


async def test_a_session_is_named_by_its_header() -> None:
    async with create_world(lambda given, run: run.session) as world:
        assert (await world.call(1, orchestrator_session="s-1")).text == "s-1"
        assert world.only_run().admission["session"] == "s-1"
