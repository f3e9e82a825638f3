"""A call of the control API: passed to the server, which authenticates it itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from domain.clock import Clock
from local.gateway.exchange import CLIENT_CLOSED, Caller, Exchange
from local.gateway.heads import SECURE_LINE, forwarded, lines_of, request_head
from local.gateway.metrics import Signals
from local.gateway.requests import Request
from local.gateway.settings import Limits
from local.gateway.upstream import Origin, UpstreamConnection
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import BadGateway, Unavailable

UNAUTHENTICATED = 401
SECURE = lines_of([SECURE_LINE])
REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})


class ApiCall(Exchange):
    """One call. It has no deadline of its own: live streams last as long as somebody reads them.

    `refused(request, peer)` is called if the server does not know the credential.
    """

    def __init__(
        self,
        request: Request,
        caller: Caller,
        *,
        origin: Origin,
        limits: Limits,
        correlation: str,
        clock: Clock,
        signals: Signals,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        refused: Callable[[Request, str], None],
    ) -> None:
        super().__init__(request, caller, limits=limits, body_limit=limits.body_bytes, correlation=correlation)
        self._origin = origin
        self._clock = clock
        self._signals = signals
        self._spawn = spawn
        self._refused = refused
        self._peer, self._secure = caller.peer, caller.secure
        self._settled = False
        self._repeated = False
        self._started_at = clock.monotonic()

    def start(self) -> None:
        connection = self._origin.take()
        if connection is not None:
            self._attach(connection, self._head())
        else:
            self._spawn(self._connect())

    async def _connect(self) -> None:
        try:
            connection = await self._origin.connect()
        except OSError:  # the server has never run yet: the supervisor opens its socket before it starts
            self.fail(_no_server())
            return
        if self._settled:
            connection.abort()
        else:
            self._attach(connection, self._head())

    def _head(self) -> bytes:
        host = self.request.first.get(b"host") or b"localhost"
        added = f"{headers.CORRELATION_ID}: {self.correlation}\r\n".encode() + forwarded(
            self._peer, host, secure=self._secure
        )
        return request_head(self.request, self.request.target, added, upgrade=True)

    def _added_to_answer(self) -> bytes:
        return f"{headers.CORRELATION_ID}: {self.correlation}\r\n".encode() + (SECURE if self._secure else b"")

    def _upstream_done(self, connection: UpstreamConnection) -> None:
        self._origin.give(connection)

    def _upstream_lost(self) -> None:
        """Once more, if that cannot do anything twice: the connection may have been closed for being idle."""
        if self._wrote or self.caller is None:
            self.fail(_no_server())
        elif self._repeated or self._pieces is None or self.request.method not in REPEATABLE:
            self.fail(
                BadGateway(
                    "The server went away before it answered",
                    code="server_lost",
                    hint="Look whether it took effect, then try again.",
                )
            )
        else:
            self._repeated = True
            self._spawn(self._connect())

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._signals.answered(self.status, self._clock.monotonic() - self._started_at)
            if self.status == UNAUTHENTICATED:
                self._refused(self.request, self._peer)

    def expired(self) -> None:
        self.fail(_no_server())

    def caller_gone(self) -> None:
        self.caller = None
        self.status = self.status or CLIENT_CLOSED
        connection, self.upstream = self.upstream, None
        if connection is not None:
            connection.abort()
        self._settle()


def _no_server() -> Unavailable:
    return Unavailable("The server is not running", code="server_unavailable", hint="Try again in a moment.")
