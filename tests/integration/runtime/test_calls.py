"""A call of an instance: admitted, worked on, committed, answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator_runtime import Part
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
