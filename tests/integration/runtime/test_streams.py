"""Answers that leave in pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.integration.runtime.world import create_world


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
