"""A call of an instance: admitted, worked on, committed, answered."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from orchestrator_runtime import Part, Run
from orchestrator_runtime.contract.errors import Conflict, Unavailable
from orchestrator_runtime.contract.headers import KEPT_BYTES
from orchestrator_runtime.frameworks.adapter import Input
from orchestrator_runtime.frameworks.values import split_multipart
from tests.integration.runtime.world import CALL_TOKEN, create_world


async def test_a_call_is_admitted_and_its_end_is_committed_before_the_answer() -> None:
    async with create_world(lambda given: {"hello": given["name"]}) as world:
        answer = await world.call(
            {"name": "Ada"}, path="/a%20b?q=1", orchestrator_run_id="r-1", x_correlation_id="c-1", traceparent="t"
        )
        assert answer.json() == {"hello": "Ada"}
        assert answer.headers["orchestrator-run"] == "/api/v1/runs/r-1"
        assert answer.headers["orchestrator-run-attempt"] == "1"
        assert answer.headers["x-correlation-id"] == "c-1"
        run = world.only_run()
        assert run.id == "r-1"
        assert (run.state, run.input, run.answer) == ("succeeded", b'{"name": "Ada"}', b'{"hello":"Ada"}')
        assert run.admission["request"] == {
            "method": "POST",
            "path": "/a%20b",
            "query": "q=1",
            "content_type": "application/json",
        }
        assert (run.admission["traceparent"], run.admission["deadline"]) == ("t", 60.0)


async def test_a_probe_is_answered_without_a_run() -> None:
    async with create_world(lambda given: given) as world:
        assert (await world.call(1, orchestrator_probe="1")).status_code == 204
        assert world.journal.runs == {}


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_call_that_the_platform_did_not_make_is_refused(token: str) -> None:
    async with create_world(lambda given: given) as world:
        answer = await world.call(1, orchestrator_call_token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "call_token_invalid")
        assert world.journal.runs == {}


async def test_an_agent_sees_the_whole_request_but_not_the_token() -> None:
    def handle(given: Input) -> Any:
        return {"method": given.method, "path": given.path, "query": given.query, "headers": dict(given.headers)}

    async with create_world(handle) as world:
        seen = (await world.call(1, method="PUT", path="/a%20b?x=1", x_own="yes")).json()
        assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "/a b", "x=1")
        assert seen["headers"]["x-own"] == "yes"
        assert CALL_TOKEN not in seen["headers"].values()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused_before_admission(declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 50

    async with create_world(lambda given: given, payload_limit=100) as world:
        answer = await world.call(content=b"x" * 101 if declared else pieces())
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
        assert world.journal.runs == {}


async def test_a_large_body_comes_in_pieces() -> None:
    async with create_world(len, payload_limit=1 << 20) as world:
        body = b"x" * 500_000
        assert (await world.call(content=body, content_type="image/png")).json() == len(body)


class Order(BaseModel):
    number: int


async def test_bad_input_is_the_caller_s_error_and_never_retried() -> None:
    async with create_world(lambda order: order) as world:
        answer = await world.call(content=b"{")
        assert (answer.status_code, answer.json()["code"]) == (400, "not_json")
        assert answer.headers["content-type"] == "application/problem+json"
        assert world.only_run().ending["retryable"] is False


async def test_input_of_another_shape_is_refused_with_the_field() -> None:
    def handle(order: Order) -> int:
        return order.number

    async with create_world(handle) as world:
        answer = await world.call({"number": "many"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "number"


async def test_the_agent_s_own_error_is_a_problem_and_may_be_retried(capfd: pytest.CaptureFixture[str]) -> None:
    def handle(given: Any) -> Any:
        raise ValueError("no such city")

    async with create_world(handle) as world:
        answer = await world.call(1)
        assert (answer.status_code, answer.json()["code"]) == (500, "agent_failed")
        assert answer.json()["detail"] == "ValueError: no such city"
        run = world.only_run()
        assert (run.state, run.ending["retryable"]) == ("failed", True)
        assert run.ending["problem"]["error"] == "ValueError"
    assert "in handle" in capfd.readouterr().err


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_code_that_exits_ends_its_run_and_not_the_instance(kind: type[BaseException]) -> None:
    async def handle(given: Any) -> Any:
        if given == "exit":
            raise kind
        return given

    async with create_world(handle) as world:
        assert (await world.call("exit")).json()["code"] == "agent_exited"
        assert (await world.call("stay")).text == "stay"


async def test_an_agent_may_choose_status_and_headers_but_not_break_out_of_them() -> None:
    def handle(given: Any) -> Any:
        return {"a": 1}, 201, {"X-A": "1\r\nx-b: 2", "Content-Length": "3", "Connection": "close"}

    async with create_world(handle) as world:
        answer = await world.call(1)
        assert (answer.status_code, answer.json()) == (201, {"a": 1})
        assert answer.headers["x-a"] == "1  x-b: 2"
        assert "x-b" not in answer.headers


async def test_an_agent_s_own_server_error_is_a_failed_run() -> None:
    async with create_world(lambda given: ("sorry", 503)) as world:
        answer = await world.call(1)
        assert (answer.status_code, answer.text) == (503, "sorry")
        run = world.only_run()
        assert (run.state, run.answer, run.ending["problem"]["code"]) == ("failed", b"sorry", "agent_answered_error")


async def test_parts_that_a_function_returns_are_a_form_and_one_alone_is_itself() -> None:
    picture = Part("picture", b"\x89PNG\r\n--", "image/png", 'a "b".png')

    def handle(given: Any) -> Any:
        return picture if given == "one" else {"text": "hello", "count": 2, "files": [picture, picture]}

    async with create_world(handle) as world:
        one = await world.call("one")
        assert (one.content, one.headers["content-type"]) == (picture.body, "image/png")
        assert one.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20%22b%22.png"
        form = await world.call("all")
        assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
        found = split_multipart(form.content, form.headers["content-type"])
        assert [(part.name, part.content_type) for part in found[:2]] == [
            ("text", "text/plain; charset=utf-8"),
            ("count", "application/json"),
        ]
        assert found[2:] == (Part("files", picture.body, "image/png", "a %22b%22.png"),) * 2


async def test_no_content_has_none() -> None:
    async with create_world(lambda given: ("ignored", 204)) as world:
        answer = await world.call(1)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await world.call(1)).status_code == 204


# identity


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


# the journal is away, or has something against it


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


# streams


async def test_each_event_leaves_at_once_and_the_answer_is_the_last() -> None:
    go_on = asyncio.Event()

    async def handle(given: Any) -> AsyncIterator[str]:
        yield "Hel"
        await go_on.wait()
        yield "lo"

    async with create_world(handle) as world:
        request = world.request(1, accept="text/event-stream")
        response = await world.client.send(request, stream=True)
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["orchestrator-run"].startswith("/api/v1/runs/")
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b'event: message\ndata: "Hel"\n\n'
        go_on.set()
        rest = b"".join([chunk async for chunk in chunks])
        assert rest == b'event: message\ndata: "lo"\n\nevent: result\ndata: "Hello"\n\n'
        assert world.only_run().answer == b"Hello"


async def test_a_blocking_generator_streams_too() -> None:
    def handle(given: Any) -> Iterator[dict[str, int]]:
        for number in range(given):
            yield {"number": number}

    async with create_world(handle) as world:
        answer = await world.call(2, accept="text/event-stream")
        assert answer.text.count("event: message") == 2
        assert answer.text.endswith('event: result\ndata: [{"number":0},{"number":1}]\n\n')
        assert (await world.call(2)).json() == [{"number": 0}, {"number": 1}]


async def test_a_failure_within_a_stream_is_its_last_event() -> None:
    async def handle(given: Any) -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("no")

    async with create_world(handle) as world:
        answer = await world.call(1, accept="text/event-stream")
        assert answer.status_code == 200
        name, data = answer.text.strip().rpartition("event: ")[2].split("\ndata: ")
        assert (name, json.loads(data)["code"]) == ("problem", "agent_failed")


async def test_a_stream_of_nothing_is_a_plain_answer() -> None:
    async with create_world(lambda given: {"a": 1}) as world:
        answer = await world.call(1, accept="text/event-stream")
        assert (answer.headers["content-type"], answer.json()) == ("application/json", {"a": 1})


async def test_bytes_in_a_stream_are_described() -> None:
    async def handle(given: Any) -> AsyncIterator[bytes]:
        yield b"\x00"

    async with create_world(handle) as world:
        answer = await world.call(1, accept="text/event-stream")
        assert answer.text.endswith('{"content_type":"application/octet-stream","base64":"AA=="}\n\n')


# stops


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


# the control socket


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
