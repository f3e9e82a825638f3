"""HTTP as an instance speaks it, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.runtime.world import CALL_TOKEN, PATIENCE, World, create_world


def request(body: bytes = b"1", *lines: str, method: str = "POST", version: str = "1.1") -> bytes:
    fields = (
        f"{method} / HTTP/{version}",
        "Host: echo",
        f"Orchestrator-Call-Token: {CALL_TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    )
    return "\r\n".join((*fields, "", "")).encode() + body


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(world.folder / "instance.sock")
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.close()


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status, fields = await head(reader)
    return status, await reader.readexactly(int(fields["content-length"]))


async def test_requests_that_come_at_once_are_answered_one_after_another() -> None:
    async with create_world(lambda given: given) as world, connected(world) as (reader, writer):
        writer.write(request(b"1") + request(b"2") + request(b"3"))
        assert [await answer(reader) for _ in range(3)] == [(200, b"1"), (200, b"2"), (200, b"3")]


async def test_a_request_may_come_in_any_pieces() -> None:
    async with create_world(lambda given: given) as world, connected(world) as (reader, writer):
        for byte in request(b'"in pieces"'):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await answer(reader) == (200, b"in pieces")


async def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    async with create_world(lambda: {"a": 1}) as world, connected(world) as (reader, writer):
        writer.write(request(b"", method="HEAD") + request(b"2"))
        status, fields = await head(reader)
        assert (status, fields["content-length"]) == (200, "7")
        assert (await answer(reader))[0] == 200  # nothing was between them


@pytest.mark.parametrize(("version", "line"), [("1.1", "Connection: close"), ("1.0", "X-Any: thing")])
async def test_a_connection_that_is_not_to_be_kept_is_closed_after_the_answer(version: str, line: str) -> None:
    async with create_world(lambda given: given) as world, connected(world) as (reader, writer):
        writer.write(request(b"1", line, version=version))
        status, fields = await head(reader)
        assert (status, fields["connection"], await reader.read()) == (200, "close", b"1")


async def test_who_asks_whether_to_go_on_is_told_to() -> None:
    async with create_world(lambda given: given) as world, connected(world) as (reader, writer):
        writer.write(request(b"1", "Expect: 100-continue")[:-1])
        assert await head(reader) == (100, {})
        writer.write(b"1")
        assert await answer(reader) == (200, b"1")


async def test_an_upgrade_is_not_made_and_the_connection_goes_on() -> None:
    async with create_world(lambda: 1) as world, connected(world) as (reader, writer):
        for _ in range(2):
            writer.write(request(b"", "Connection: upgrade", "Upgrade: websocket"))
            assert await answer(reader) == (200, b"1")


async def test_what_is_no_http_is_refused() -> None:
    async with create_world(lambda given: given) as world, connected(world) as (reader, writer):
        writer.write(b"hello\r\n\r\n")
        assert (await head(reader))[0] == 400
        assert await reader.read() == b""


async def test_the_rest_of_a_body_that_was_refused_is_read_and_dropped() -> None:
    async with create_world(lambda given: given, payload_limit=10) as world, connected(world) as (reader, writer):
        writer.write(request(b"x" * 100)[:-50])
        assert (await answer(reader))[0] == 413
        writer.write(b"x" * 50 + request(b"1"))
        assert await answer(reader) == (200, b"1")


async def test_a_header_field_that_cannot_be_written_is_left_out() -> None:
    def handle(given: Any) -> Any:
        return given, 200, {"X A": "1", "x-b:": "2", "x-c": "3"}

    async with create_world(handle) as world, connected(world) as (reader, writer):
        writer.write(request())
        _, fields = await head(reader)
        assert {name for name in fields if name.startswith(("X", "x-"))} == {"x-c", "x-correlation-id"}
