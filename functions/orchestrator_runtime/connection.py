"""HTTP/1.1 between the platform and an instance: a connection brings requests, each answered before the next begins.

Callers are the gateway or a queue proxy, which have parsed what a client sent and written it anew. A request is handed
on when its body is complete, or larger than is taken; one that breaks off before is none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Protocol, cast

import httptools

Fields = list[tuple[bytes, bytes]]

BODILESS = frozenset({204, 304})
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
UNREADABLE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Received:
    """A request. `headers` have lower case names; `body` is None where it has more than `limit` bytes."""

    __slots__ = ("body", "headers", "keep_alive", "method", "target")

    def __init__(self, method: str, target: str, headers: dict[str, str], *, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.body: bytes | None = b""


class Owner(Protocol):
    """What a connection needs of the server."""

    body_limit: int

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def handle(self, request: Received, connection: Connection) -> None:
        """Answer the request, by exactly one of `answer`, `finish` (after `begin`) and `abort`."""
        ...


class Connection(asyncio.Protocol):
    """One connection. What is written after its caller has gone is dropped."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._incoming: Received | None = None  # its body is still to come
        self._pieces: list[bytes] = []
        self._size = 0
        self._current: Received | None = None  # is being answered
        self._waiting: deque[Received] = deque()
        self._closing = False
        self._writable: asyncio.Future[None] | None = None  # while the caller does not read

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        self._waiting.clear()
        self._owner.closed(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # refused by being answered as any other request
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self._closing = True
            if self._current is None and self._transport is not None:
                self._transport.write(UNREADABLE)
                self._transport.close()

    # httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        parser = self._parser
        request = self._incoming = Received(
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._headers,
            keep_alive=parser.should_keep_alive(),
        )
        self._pieces = []
        self._size = 0
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._owner.body_limit:
            self._refuse(request)
        elif request.headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._incoming is None:  # it was refused
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._owner.body_limit:
            self._refuse(self._incoming)

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        if request is not None:
            request.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            self._hand_on(request)

    def _refuse(self, request: Received) -> None:
        self._incoming = None
        self._pieces = []
        request.body = None
        self._hand_on(request)

    def _hand_on(self, request: Received) -> None:
        if self._current is not None:
            self._waiting.append(request)
            if len(self._waiting) == 1 and self._transport is not None:
                self._transport.pause_reading()
            return
        self._current = request
        self._owner.handle(request, self)

    # the answer

    def answer(self, status: int, fields: Fields, body: bytes) -> None:
        """The whole answer. Nothing in `fields` says how long it is."""
        if status in BODILESS:
            self._write(self._head(status, fields, b""))
        else:
            head = self._head(status, fields, b"content-length: %d\r\n" % len(body))
            self._write(head if self._bodiless else head + body)
        self._done()

    def begin(self, status: int, fields: Fields) -> None:
        """The head of an answer in pieces."""
        self._write(self._head(status, fields, b"transfer-encoding: chunked\r\n"))

    async def send(self, piece: bytes) -> None:
        """A piece, not empty. Returns when the caller has taken enough of what came before."""
        if not self._bodiless:
            self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
        while self._writable is not None:
            await self._writable

    def finish(self) -> None:
        if not self._bodiless:
            self._write(b"0\r\n\r\n")
        self._done()

    def abort(self) -> None:
        """Break off, so that nothing is taken for an answer."""
        self._current = None
        if self._transport is not None:
            self._transport.abort()

    def shut_down(self) -> None:
        """Close as soon as what is being answered has been."""
        self._closing = True
        if self._current is None and self._incoming is None and self._transport is not None:
            self._transport.close()

    @property
    def _bodiless(self) -> bool:
        return self._current is not None and self._current.method == "HEAD"

    def _head(self, status: int, fields: Fields, framing: bytes) -> bytes:
        parts = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in fields:
            parts += (name, b": ", value, b"\r\n")
        if self._closing or self._current is None or not self._current.keep_alive:
            self._closing = True
            parts.append(b"connection: close\r\n")
        parts += (framing, b"\r\n")
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _done(self) -> None:
        self._current = None
        if self._transport is None:
            return
        if self._closing:
            self._transport.close()
        elif self._waiting:
            self._current = self._waiting.popleft()
            if not self._waiting:
                self._transport.resume_reading()
            self._owner.handle(self._current, self)
