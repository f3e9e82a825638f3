"""Model calls over httpx: recorded once, answered after a crash, and nothing else touched."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator_runtime.frameworks import recording
from orchestrator_runtime.frameworks.current import running
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call

recording.install()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake-1", "messages": [{"role": "user", "content": text}], **more}


def responses(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "fake-1", "input": text, **more}


DIALECTS = {"/v1/chat/completions": chat, "/v1/responses": responses, "/v1/messages": chat}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as started:
        yield started


@contextlib.asynccontextmanager
async def attempt(journal: Journal | None = None, number: int = 1) -> AsyncIterator[FakeRunContext]:
    """An attempt of run-1, of which all is settled at its end."""
    context = FakeRunContext(journal, run="run-1", attempt=number)
    with running(create_call(run=context)[0]) as active:
        yield context
        await active.settle()


async def post(server: ModelServer, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url) as client:
        return await client.post(path, json=body, headers=headers)


def post_blocking(server: ModelServer, path: str, body: dict[str, Any]) -> httpx.Response:
    with httpx.Client(base_url=server.url) as client:
        return client.post(path, json=body)


async def post_from(where: str, server: ModelServer, path: str, body: dict[str, Any]) -> httpx.Response:
    """With one of the two clients, from the run's own loop, a thread, or another loop in a thread."""
    if where == "asynchronous":
        return await post(server, path, body)
    if where == "blocking the loop":
        return post_blocking(server, path, body)
    if where == "a thread":
        return await asyncio.to_thread(post_blocking, server, path, body)
    return await asyncio.to_thread(lambda: asyncio.run(post(server, path, body)))


PLACES = ("asynchronous", "blocking the loop", "a thread", "another loop")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_call_is_a_step_and_a_second_attempt_is_answered_from_it(
    server: ModelServer, path: str, where: str, stream: bool
) -> None:
    body = DIALECTS[path]("hello there", stream=stream)
    async with attempt() as first:
        live = await post_from(where, server, path, body)
    async with attempt(first.journal_, 2):
        recorded = await post_from(where, server, path, body)
    assert len(server.requests) == 1
    assert recorded.status_code == live.status_code == 200
    assert recorded.headers["content-type"] == live.headers["content-type"]
    if stream:
        assert recorded.text == live.text
        assert "there" in live.text
    else:
        assert recorded.json() == live.json()
    (step,) = first.journal_.steps()
    assert (step["kind"], step["name"], step["state"]) == ("model", "fake-1", "succeeded")
    assert step["data"] == {"model": "fake-1", "input_tokens": 2, "output_tokens": 3}
    assert json.loads(step["input"]) == body


async def test_each_call_carries_an_idempotency_key_of_its_own(server: ModelServer) -> None:
    async with attempt():
        for text in ("one", "one", "two"):
            await post(server, "/v1/messages", chat(text))
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(set(keys)) == 3
    assert all(key.startswith("run-1-") for key in keys)


async def test_the_key_is_the_same_in_every_attempt(server: ModelServer) -> None:
    for number in (1, 2):
        async with attempt(Journal(), number):  # nothing was recorded: the first attempt was lost before the answer
            await post(server, "/v1/messages", chat("one"))
    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


async def test_a_key_that_the_agent_set_is_left_to_it(server: ModelServer) -> None:
    async with attempt():
        await post(server, "/v1/messages", chat("one"), **{"Idempotency-Key": "mine"})
    assert server.requests[0].headers["idempotency-key"] == "mine"


async def test_equal_calls_are_answered_in_their_order(server: ModelServer) -> None:
    async with attempt() as first:
        for _ in range(2):
            await post(server, "/v1/messages", chat("one"))
    async with attempt(first.journal_, 2) as second:
        for _ in range(3):
            await post(server, "/v1/messages", chat("one"))
    assert len(server.requests) == 3
    assert [step["attempt"] for step in second.journal_.steps()] == [1, 1, 2]


@pytest.mark.parametrize("where", PLACES)
async def test_a_refused_call_is_not_recorded_and_its_retry_takes_its_place(server: ModelServer, where: str) -> None:
    body = chat("fail 500 once")
    async with attempt() as first:
        refused = await post_from(where, server, "/v1/messages", body)
        retried = await post_from(where, server, "/v1/messages", body)
    assert (refused.status_code, retried.status_code) == (500, 200)
    assert refused.json()["error"]["message"] == "as asked for: 500"
    steps = first.journal_.steps()
    assert [step["state"] for step in steps] == ["failed", "succeeded"]
    assert "500" in steps[0]["error"]
    async with attempt(first.journal_, 2):
        recorded = await post_from(where, server, "/v1/messages", body)
    assert recorded.json() == retried.json()
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


@pytest.mark.parametrize("where", PLACES)
async def test_a_call_that_reaches_nobody_is_a_failed_step(where: str) -> None:
    with model_server() as gone:
        pass
    async with attempt() as context:
        with pytest.raises(httpx.ConnectError):
            await post_from(where, gone, "/v1/messages", chat("one"))
    (step,) = context.journal_.steps()
    assert step["state"] == "failed"


@pytest.mark.parametrize("where", PLACES)
async def test_a_stream_that_breaks_off_is_not_recorded(server: ModelServer, where: str) -> None:
    body = chat("break off", stream=True)
    async with attempt() as first:
        with pytest.raises(httpx.RemoteProtocolError):
            await post_from(where, server, "/v1/messages", body)
    (step,) = first.journal_.steps()
    assert step["state"] == "failed"
    assert first.journal_.calls == {}


async def read(server: ModelServer, body: dict[str, Any], *, until: str) -> None:
    """Read a stream as an SDK does: to an event, and not to the end of the connection."""
    async with (
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        async for line in response.aiter_lines():
            if until in line:
                return


def read_blocking(server: ModelServer, body: dict[str, Any], *, until: str) -> None:
    with (
        httpx.Client(base_url=server.url) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        for line in response.iter_lines():
            if until in line:
                return


@pytest.mark.parametrize(("until", "state"), [("[DONE]", "succeeded"), ("Echo", "failed")])
@pytest.mark.parametrize("is_blocking", [False, True])
async def test_a_stream_is_recorded_if_its_last_event_was_read(
    server: ModelServer, until: str, state: str, is_blocking: bool
) -> None:
    body = chat("a b c d e f g h", stream=True)
    async with attempt() as context:
        if is_blocking:
            await asyncio.to_thread(read_blocking, server, body, until=until)
        else:
            await read(server, body, until=until)
    (step,) = context.journal_.steps()
    assert step["state"] == state


async def test_an_answer_is_durable_before_the_agent_has_all_of_it(server: ModelServer) -> None:
    async with (
        attempt() as context,
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/chat/completions", json=chat("hello", stream=True)) as response,
    ):
        async for chunk in response.aiter_bytes():
            if b"[DONE]" in chunk:
                assert [step["state"] for step in context.journal_.steps()] == ["succeeded"]


async def test_nothing_else_is_touched(server: ModelServer) -> None:
    content = json.dumps(chat("streamed")).encode()

    async def body() -> AsyncIterator[bytes]:
        yield content

    async with attempt() as context, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.post("/v1/other", json={})).status_code == 404
        await client.post("/v1/messages", content=body(), headers={"content-length": str(len(content))})
    assert context.journal_.steps() == []
    assert (await post(server, "/v1/messages", chat("outside of any run"))).status_code == 200
    assert "idempotency-key" not in server.requests[-1].headers


async def test_a_call_from_a_thread_without_context_belongs_to_the_only_run(server: ModelServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        async with attempt() as context:
            await asyncio.wrap_future(pool.submit(post_blocking, server, "/v1/messages", chat("one")))
            other = FakeRunContext()
            with running(create_call(run=other)[0]):
                await asyncio.wrap_future(pool.submit(post_blocking, server, "/v1/messages", chat("two")))
    assert [json.loads(step["input"])["messages"][0]["content"] for step in context.journal_.steps()] == ["one"]
    assert other.journal_.steps() == []


def test_a_client_that_is_imported_later_is_wrapped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "httpx2.py").write_text(
        "class HTTPTransport:\n    def handle_request(self, request): return request\n"
        "class AsyncHTTPTransport:\n    async def handle_async_request(self, request): return request\n"
        "class SyncByteStream: ...\nclass AsyncByteStream: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "httpx2", raising=False)
    recording.install()
    client = importlib.import_module("httpx2")
    try:
        assert client.HTTPTransport.handle_request.wrapped_by_orchestrator
        assert "HTTPTransport" in inspect.getsource(client)
        request = httpx.Request("GET", "http://127.0.0.1/")
        assert client.HTTPTransport().handle_request(request) is request
    finally:
        monkeypatch.delitem(sys.modules, "httpx2")


def test_wrapping_twice_is_wrapping_once() -> None:
    before = httpx.HTTPTransport.handle_request
    recording.install()
    assert httpx.HTTPTransport.handle_request is before
    assert sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path) == 1


async def test_threads_find_their_own_run_by_their_context(server: ModelServer) -> None:
    barrier = threading.Barrier(2)

    def work(text: str) -> None:
        barrier.wait(30)
        post_blocking(server, "/v1/messages", chat(text))

    async def run(text: str) -> FakeRunContext:
        context = FakeRunContext()
        with running(create_call(run=context)[0]):
            await asyncio.to_thread(work, text)
        return context

    for context, text in zip(await asyncio.gather(run("one"), run("two")), ("one", "two"), strict=True):
        assert [json.loads(step["input"]) for step in context.journal_.steps()] == [chat(text)]
