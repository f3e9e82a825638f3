"""Live streams on the wire: events, silence, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from control_api.streaming import ServerEvent, event_stream, kept_alive, last_number
from orchestrator_runtime.contract.errors import BadInput


async def test_an_event_has_its_id_its_name_and_its_data_as_json() -> None:
    assert (
        ServerEvent("state", {"state": "ready"}, "7").encode() == b'id: 7\nevent: state\ndata: {"state": "ready"}\n\n'
    )
    assert ServerEvent("state", None).encode() == b"event: state\ndata: null\n\n"


async def test_a_stream_begins_at_once_and_ends_with_its_events() -> None:
    async def events() -> AsyncGenerator[ServerEvent]:
        yield ServerEvent("one", 1)

    response = event_stream(events(), keep_alive=60)
    assert response.headers["cache-control"] == "no-store"
    assert [chunk async for chunk in response.body_iterator] == [
        b": keep-alive\n\n",
        b"event: one\ndata: 1\n\n",
    ]


async def test_a_silent_stream_sends_a_filler_until_there_is_something() -> None:
    there = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        await there.wait()
        yield b"chunk"

    stream = kept_alive(chunks(), silence=0, filler=b"\n")
    assert [await anext(stream) for _ in range(3)] == [b"\n", b"\n", b"\n"]
    there.set()
    while (chunk := await anext(stream)) == b"\n":
        await asyncio.sleep(0)
    assert chunk == b"chunk"


async def test_what_is_behind_a_stream_is_closed_when_its_reader_goes() -> None:
    closed = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            closed.set()

    stream = kept_alive(chunks(), silence=0, filler=b"\n")
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert closed.is_set()


def test_the_last_event_id_is_a_number_of_ours() -> None:
    assert [last_number(given) for given in (None, "", "12")] == [0, 0, 12]
    for wrong in ("x", "-1", "²"):
        with pytest.raises(BadInput) as refused:
            last_number(wrong)
        assert refused.value.code == "last_event_id_invalid"


async def test_a_stream_ends_before_what_its_reader_may_not_see_any_more() -> None:
    allowed = [True, False]

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"seen"
        yield b"not seen"

    stream = kept_alive(chunks(), silence=60, filler=b"", allowed=lambda: allowed.pop(0))
    assert [chunk async for chunk in stream] == [b"", b"seen"]
