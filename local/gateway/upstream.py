"""Connections to instances and to the server, kept open between requests: one request at a time on each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from local.gateway.heads import Fields
from local.gateway.outbox import Outbox

BODILESS = frozenset({204, 304})
OK = 200  # below, an answer is still to come
HEAD_BYTES = 256 * 1024  # of an answer's head; an instance may write anything
UNTIL_CLOSE = -1
CHUNKED = -2
NO_BODY = -3


class Answered(Protocol):
    """Who gets an upstream's answer. `lost` ends it at any point; otherwise head, body…, end come in order."""

    def answer_head(self, status: int, fields: Fields, length: int) -> None:
        """`length`: of the body in bytes, or `CHUNKED`, `UNTIL_CLOSE` or `NO_BODY`."""
        ...

    def answer_body(self, data: bytes) -> None: ...

    def answer_end(self) -> None: ...

    def answer_upgraded(self, fields: Fields) -> None:
        """101: from now on both directions are bytes; `answer_body` brings those that come."""
        ...

    def upstream_lost(self) -> None: ...

    def upstream_full(self) -> None: ...

    def upstream_drained(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection; `call` is who is being served on it."""

    __slots__ = (
        "_bodiless",
        "_complete",
        "_excess",
        "_fields",
        "_head_bytes",
        "_interim",
        "_length",
        "_on_closed",
        "_outbox",
        "_parser",
        "_reusable",
        "_status",
        "_tunnel",
        "call",
        "transport",
        "used",
    )

    def __init__(self, on_closed: Callable[[UpstreamConnection], None]) -> None:
        self.call: Answered | None = None
        self.transport: asyncio.Transport | None = None
        self.used = False
        self._on_closed = on_closed
        self._tunnel = False
        self._reset(bodiless=False)

    def _reset(self, *, bodiless: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._head_bytes = 0
        self._status = 0
        self._length = 0
        self._interim = False
        self._reusable = True
        self._bodiless = bodiless
        self._complete = False
        self._excess = False

    def start(self, call: Answered, *, head_request: bool) -> None:
        """Serve `call`; what it writes from now on is its request."""
        self.call = call
        if head_request or self._bodiless:
            self._reset(bodiless=head_request)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self._outbox.write(data)

    @property
    def closing(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def abort(self) -> None:
        """Break the connection; nobody is told."""
        self.call = None
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._outbox = Outbox(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        call, self.call = self.call, None
        self._on_closed(self)
        if call is None:
            return
        if exc is None and (self._tunnel or (self._status and self._length == UNTIL_CLOSE)):
            call.answer_end()
        else:
            call.upstream_lost()

    def pause_writing(self) -> None:
        if self.call is not None:
            self.call.upstream_full()

    def resume_writing(self) -> None:
        if self.call is not None:
            self.call.upstream_drained()

    def data_received(self, data: bytes) -> None:
        if self.call is None:  # an answer nobody asked for
            self.abort()
            return
        if self._tunnel:
            self.call.answer_body(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._upgraded(data[stop.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._lose()
            raise error.__context__ or error from None
        except httptools.HttpParserError:  # no valid HTTP: as good as gone, unless it came after a whole answer
            if not self._complete:
                self._lose()
                return
            self._excess = True
        if self._status < OK:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._lose()
        if self._complete:
            self._ended()

    def _lose(self) -> None:
        call = self.call
        self.abort()
        if call is not None:
            call.upstream_lost()

    def _upgraded(self, rest: bytes) -> None:
        call = self.call
        if call is None or self._status != 101:
            self._lose()
            return
        self._tunnel = True
        call.answer_upgraded(self._fields)
        if rest:
            call.answer_body(rest)

    # httptools

    def on_message_begin(self) -> None:
        self._excess = self._complete
        self._fields = []
        self._interim = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status < OK:  # else a trailer: dropped
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = self._status = parser.get_status_code()
        if status < OK:
            self._interim = True
            return
        if self.call is None or self._complete:
            return
        self._reusable = parser.should_keep_alive()
        self._length = self._framing(status)
        self.call.answer_head(status, self._fields, self._length)
        if self._bodiless:  # an answer to HEAD may name a length: llhttp would wait for it
            self._excess = self._complete = True

    def _framing(self, status: int) -> int:
        first = dict(self._fields)
        if status in BODILESS:
            return NO_BODY
        if b"transfer-encoding" in first:
            return CHUNKED
        length = first.get(b"content-length")
        if length is not None:
            return int(length)
        return NO_BODY if self._bodiless else UNTIL_CLOSE

    def on_body(self, data: bytes) -> None:
        if self.call is not None and not self._complete:
            self.call.answer_body(data)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._complete = True

    def _ended(self) -> None:
        """After the whole of what came was read: whatever follows an answer unasked spoils the connection."""
        call, self.call = self.call, None
        self._status = self._head_bytes = 0
        self._complete = False
        self._reusable = self._reusable and not self._excess
        if call is not None:
            call.answer_end()

    @property
    def reusable(self) -> bool:
        return self._reusable and not self._tunnel and not self.closing


class Origin:
    """One Unix socket and the idle connections to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._idle: list[UpstreamConnection] = []

    def take(self) -> UpstreamConnection | None:
        """The connection that was used last, if one is open."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        return None

    def give(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, if it can have one."""
        if connection.reusable:
            connection.used = True
            self._idle.append(connection)
        else:
            connection.abort()

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self._closed), self.path)
        return connection

    def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    def _closed(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
