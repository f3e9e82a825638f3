"""One caller's connection: requests one after another, each handed to the gateway, which makes an exchange of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol, cast

from local.gateway.connections import Connections
from local.gateway.exchange import Exchange
from local.gateway.heads import CONTINUE, problem_answer
from local.gateway.outbox import Outbox
from local.gateway.requests import Request, RequestReader
from local.gateway.settings import Limits
from orchestrator_runtime.contract.errors import BadInput, Problem, TooMany
from orchestrator_runtime.contract.ids import uuid7

logger = logging.getLogger("gateway.client")

LINGER = 2.0  # seconds that the rest of a refused request is read and dropped, so that the refusal arrives


class SlowClient(BadInput):
    status = 408
    title = "Request timeout"


class Front(Protocol):
    """What a connection needs of the gateway."""

    limits: Limits
    draining: bool
    connections: Connections

    def now(self) -> float: ...

    def limited_as(self, peer: str) -> str | None:
        """What the limits count this address as; None if it has none."""
        ...

    def turned_away(self) -> bool:
        """One connection too many came. Returns whether there is room to tell it so."""
        ...

    def opened(self, client: ClientConnection) -> None: ...

    def closed(self, client: ClientConnection) -> None: ...

    def begin(self, client: ClientConnection, request: Request) -> Exchange | bytes:
        """The exchange that will answer this request, or its whole answer. Raises `Problem`."""
        ...


class ClientConnection(asyncio.Protocol):
    """Speaks HTTP/1 with a caller. Requests that are pipelined wait in `_backlog`, and reading waits with them.

    `entered`: whether it was counted among the connections when it was accepted.
    """

    def __init__(self, front: Front, *, entered: bool = False) -> None:
        self.exchange: Exchange | None = None
        self.peer = "unknown"
        self.limited_as: str | None = None
        self.secure = False
        self.full = False
        self.opened = False
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(self, limits=front.limits)
        self._backlog: deque[Request | bytes | None] = deque()  # None: the end of a request
        self._after_upgrade: bytes | None = None  # what came behind a request for an upgrade
        self._tunnel = False
        self._eof = False
        self._flow_held = False
        self._paused = False
        self._lingers_until: float | None = None
        self._active_at = front.now()
        self._head_since: float | None = None
        self._entered = entered
        self._full_since = 0.0
        self._measured: Exchange | None = None  # whose body is measured, since when, and how much there was then
        self._measured_at = 0.0
        self._measured_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._outbox = Outbox(self._transport)
        name = self._transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else "127.0.0.1"
        self.limited_as = self._front.limited_as(self.peer)
        self.secure = self._transport.get_extra_info("ssl_object") is not None
        self.opened = True
        self._front.opened(self)
        self._entered = self._entered or self._front.connections.enter(self.limited_as)
        if not self._entered:
            self._turn_away()
        elif self._front.draining:  # its handshake began before
            self.close()

    def _turn_away(self) -> None:
        if not self._front.turned_away():
            self.cut()
            return
        self._broken(
            TooMany(
                "There are too many connections from this address",
                code="too_many_connections",
                hint="Close some, or send several requests over one.",
                retry_after=1,
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        exchange, self.exchange = self.exchange, None
        self._front.closed(self)
        if self._entered:
            self._front.connections.leave(self.limited_as)
        if exchange is not None:
            exchange.caller_gone()

    def eof_received(self) -> bool:
        """A caller may close its sending half and still want the answer.

        While its call waits for an instance it has gone, as for Knative's activator: who leaves an overloaded queue
        must not be worked for. TLS knows no closed half here: whoever says its end has gone.
        """
        self._eof = True
        exchange = self.exchange
        return (
            not self.secure and exchange is not None and exchange.complete and not self._tunnel and not exchange.queued
        )

    def pause_writing(self) -> None:
        self.full = True
        self._full_since = self._front.now()
        if self.exchange is not None:
            self.exchange.caller_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.exchange is not None:
            self.exchange.caller_drained()

    def data_received(self, data: bytes) -> None:
        self._active_at = self._front.now()
        if self._tunnel:
            if self.exchange is not None:
                self.exchange.request_body(data)
            return
        if self._lingers_until is not None:
            return
        if self._after_upgrade is not None:
            self._after_upgrade += data
            self._update_reading()
            return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        reader = self._reader
        try:
            self._after_upgrade = reader.feed(data)
        except Exception:  # a border: a defect of ours ends this connection, not the gateway
            logger.exception("A connection was cut because of a defect")
            self.cut()
            return
        if reader.in_head:
            self._head_since = self._head_since or self._active_at
        if self._after_upgrade is not None and self.exchange is None:
            self._refeed()  # the upgrade was refused at once
        if reader.problem is not None:
            self._broken(reader.problem)
        elif self._backlog or self._after_upgrade:
            self._update_reading()

    # Receiver

    def request_started(self, request: Request) -> None:
        self._head_since = None
        if self.exchange is not None or self._backlog:
            self._backlog.append(request)
        else:
            self._begin(request)

    def request_body(self, data: bytes) -> None:
        if self._backlog:
            self._backlog.append(data)
        elif self.exchange is not None:
            self.exchange.request_body(data)

    def request_ended(self) -> None:
        if self._backlog:
            self._backlog.append(None)
        elif self.exchange is not None:
            self.exchange.request_ended()

    def _begin(self, request: Request) -> None:
        if self._lingers_until is not None or self._transport is None:
            return
        try:
            begun = self._front.begin(self, request)
        except Problem as problem:
            self._refuse(request, problem)
            return
        if isinstance(begun, bytes):
            self._answer(request, begun)
        elif request.expects_continue and self.exchange is begun:
            self.write(CONTINUE)

    def _refuse(self, request: Request, problem: Problem) -> None:
        correlation = request.first.get(b"x-correlation-id", b"").decode("latin-1") or uuid7()
        close = not self._reusable(request)
        self._answer(request, problem_answer(problem, correlation=correlation, close=close, secure=self.secure))

    def _answer(self, request: Request, data: bytes) -> None:
        """Answer at once. A body that is still to come is not waited for."""
        self.exchange = None
        self.write(data[: data.index(b"\r\n\r\n") + 4] if request.method == b"HEAD" else data)
        if self._reusable(request):
            return
        self._linger()

    def _reusable(self, request: Request) -> bool:
        return request.keep_alive and not request.chunked and not request.length and not self._front.draining

    def _broken(self, problem: Problem) -> None:
        """What came is not HTTP: the connection ends with the answer to what came before."""
        if self.exchange is None:
            self.write(problem_answer(problem, correlation=uuid7(), close=True, secure=self.secure))
            self._linger()
        elif not self.exchange.complete:
            self.exchange.fail(problem)
        else:
            self._flow_held = True  # its answer is still to come; `done` then ends the connection
            self._update_reading()

    # Caller

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._outbox.write(data)

    def done(self, *, keep_alive: bool) -> None:
        exchange, self.exchange = self.exchange, None
        self._active_at = self._front.now()
        if self._transport is None:
            return
        if exchange is not None and not exchange.complete:
            self._linger()
            return
        problem = self._reader.problem
        if problem is not None and keep_alive and not self._backlog:
            self.write(problem_answer(problem, correlation=uuid7(), close=True, secure=self.secure))
            self._linger()
            return
        if not keep_alive or self._front.draining or (self._eof and not self._backlog):
            self._outbox.flush()
            self._transport.close()
            return
        self._flow_held = False
        if self._backlog:
            self._replay()
        else:
            self._refeed()
        if self._paused:
            self._update_reading()

    def _refeed(self) -> None:
        """What followed a request for an upgrade that was not granted is HTTP after all."""
        rest, self._after_upgrade = self._after_upgrade, None
        if rest and self._lingers_until is None:
            self._feed(rest)

    def cut(self) -> None:
        self.exchange = None
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        self._flow_held = True
        self._update_reading()

    def go_on(self) -> None:
        if self._flow_held:
            self._flow_held = False
            self._update_reading()

    def tunnel(self) -> None:
        self._tunnel = True
        rest, self._after_upgrade = self._after_upgrade, None
        if rest and self.exchange is not None:
            self.exchange.request_body(rest)
        self._update_reading()

    # the rest

    def _replay(self) -> None:
        """Go on with pipelined requests, up to the first that is not answered at once."""
        while self._backlog and not (self.exchange is not None and isinstance(self._backlog[0], Request)):
            event = self._backlog.popleft()
            if isinstance(event, Request):
                self._begin(event)
            elif self.exchange is None:
                continue
            elif event is None:
                self.exchange.request_ended()
            else:
                self.exchange.request_body(event)
        problem = self._reader.problem
        if problem is not None and self.exchange is not None and not self.exchange.complete and not self._backlog:
            self.exchange.fail(problem)

    def _update_reading(self) -> None:
        transport = self._transport
        wanted = self._flow_held or bool(self._backlog) or bool(self._after_upgrade)
        if transport is None or wanted == self._paused or transport.is_closing():
            return
        self._paused = wanted
        if wanted:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _linger(self) -> None:
        """Close, but let the answer arrive first: closing on unread bytes would reset the connection."""
        self._lingers_until = self._front.now() + LINGER
        self._backlog.clear()
        transport = self._transport
        if transport is None:
            return
        self._outbox.flush()
        if self._eof:
            transport.close()
            return
        if transport.can_write_eof():  # else TLS, which has no half to close: the answer says how long it is
            transport.write_eof()
        self._flow_held = False
        self._after_upgrade = None
        self._update_reading()

    def check(self, now: float) -> None:
        """Called several times a second: end what took too long."""
        limits = self._front.limits
        exchange = self.exchange
        if exchange is None:
            self._measured = None
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.cut()
        elif self.full and now - self._full_since > limits.read_timeout:
            self._abandon()
        elif exchange is not None:
            if now > exchange.deadline:
                exchange.expired()
            elif not exchange.complete and self._body_is_slow(exchange, now):
                exchange.fail(SlowClient("The body did not come in time", code="slow_client"))
        elif self._head_since is not None:
            if now - self._head_since > limits.head_timeout:
                self._broken(SlowClient("The header fields did not come in time", code="slow_client"))
        elif now - self._active_at > limits.idle_timeout:
            if self._transport is not None and self._transport.is_closing():
                self.cut()  # it has had its time to read the end of its answer
            else:
                self.close()

    def _body_is_slow(self, exchange: Exchange, now: float) -> bool:
        """Whether nothing came for a while, or so little that it would go on for ever."""
        limits = self._front.limits
        if self._flow_held:  # it is not read
            self._measured = None
            return False
        if now - self._active_at > limits.body_timeout:
            return True
        if self._measured is exchange and now - self._measured_at <= limits.body_timeout:
            return False
        came = exchange.received - self._measured_bytes
        slow = self._measured is exchange and came < limits.body_rate * limits.body_timeout
        self._measured, self._measured_at, self._measured_bytes = exchange, now, exchange.received
        return slow

    def _abandon(self) -> None:
        """The caller does not read its answer: it has gone, as if it had broken the connection."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection if nothing is in progress on it."""
        if self.exchange is None and self._transport is not None and self._lingers_until is None:
            self._outbox.flush()
            self._transport.close()
