"""HTTP clients that cost little: one connection for a first byte, and many at once that keep a server busy.

The load generator is a closed loop: each connection sends its next request when it has the whole answer to the last.
It speaks HTTP/1.1 over kept connections on uvloop with httptools, so that it needs a fraction of what a server does.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

TIMEOUT = 60.0  # seconds without an answer


@dataclass(frozen=True, slots=True)
class Call:
    """A request that can be sent again and again."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def encoded(self) -> bytes:
        parts = urlsplit(self.url)
        fields = {
            "host": parts.netloc,
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {parts.path or '/'} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


@dataclass(slots=True)
class Answer:
    """`first` and `whole`: seconds from before its connection is made to its first byte, and to its last one."""

    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    first: float = 0.0
    whole: float = 0.0


class _Reader:
    """Puts an answer together from the bytes of a connection."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def call_once(call: Call, *, started: float | None = None) -> Answer:
    """One call over a connection of its own; `started` is when the time began, now by default.

    Raises `ConnectionError` if the answer breaks off, `TimeoutError` if none comes.
    """
    begin = time.perf_counter() if started is None else started
    with socket.create_connection(call.address, timeout=TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(call.encoded())
        reader = _Reader()
        while not reader.complete:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError(f"{call.url} broke off its answer: {reader.answer}")
            if not reader.answer.first:
                reader.answer.first = time.perf_counter() - begin
            reader.feed(data)
    reader.answer.whole = time.perf_counter() - begin
    return reader.answer


@dataclass(slots=True)
class Load:
    """What a stretch of load was like. `latencies`: seconds from a request to the first byte of its answer."""

    seconds: float
    latencies: list[float]
    failures: list[Answer]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds


class _Connection(asyncio.Protocol):
    """One connection of a closed loop; what ends between `begin` and `end` counts."""

    def __init__(self, request: bytes, *, begin: float, end: float) -> None:
        self.latencies: list[float] = []
        self.failures: list[Answer] = []
        self.closed = asyncio.get_running_loop().create_future()
        self._request = request
        self._begin = begin
        self._end = end
        self._sent = 0.0
        self._first = 0.0
        self._ok = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes
        self._send()

    def data_received(self, data: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter()
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent:
            self.failures.append(Answer(0, repr(error).encode()))
        if not self.closed.done():
            self.closed.set_result(None)

    def on_headers_complete(self) -> None:
        self._ok = self._parser.get_status_code() == 200

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if not self._ok:
            self.failures.append(Answer(self._parser.get_status_code()))
        elif self._begin <= now < self._end:
            self.latencies.append(self._first - self._sent)
        if now >= self._end:
            self._sent = 0.0
            assert self._transport is not None
            self._transport.close()
        else:
            self._send()

    def _send(self) -> None:
        self._first = 0.0
        self._sent = time.perf_counter()
        assert self._transport is not None
        self._transport.write(self._request)


def load(call: Call, *, connections: int, seconds: float, warm_up: float = 0.2) -> Load:
    """Keep `connections` connections busy for `warm_up`, which does not count, and then for `seconds`."""
    return uvloop.run(_load(call, connections=connections, seconds=seconds, warm_up=warm_up))


async def _load(call: Call, *, connections: int, seconds: float, warm_up: float) -> Load:
    loop = asyncio.get_running_loop()
    begin = time.perf_counter() + warm_up
    request = call.encoded()
    host, port = call.address
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: _Connection(request, begin=begin, end=begin + seconds), host, port)
            for _ in range(connections)
        )
    )
    async with asyncio.timeout(warm_up + seconds + TIMEOUT):
        await asyncio.gather(*(connection.closed for _, connection in made))
    latencies = [value for _, connection in made for value in connection.latencies]
    failures = [answer for _, connection in made for answer in connection.failures]
    return Load(seconds, latencies, failures)


def call_all(calls: Sequence[Call]) -> list[Answer]:
    """All calls at once, each over a connection of its own; a call without an answer has status 0."""
    return uvloop.run(_call_all(calls))


async def _call_all(calls: Sequence[Call]) -> list[Answer]:
    return await asyncio.gather(*map(_call, calls))


async def _call(call: Call) -> Answer:
    begin = time.perf_counter()
    reader = _Reader()
    try:
        async with asyncio.timeout(TIMEOUT):
            incoming, outgoing = await asyncio.open_connection(*call.address)
            outgoing.write(call.encoded())
            while not reader.complete:
                data = await incoming.read(65536)
                if not data:
                    raise ConnectionError("the answer broke off")
                reader.answer.first = reader.answer.first or time.perf_counter() - begin
                reader.feed(data)
            outgoing.close()
    except (OSError, TimeoutError) as error:  # counted by who asked
        return Answer(0, repr(error).encode())
    reader.answer.whole = time.perf_counter() - begin
    return reader.answer
