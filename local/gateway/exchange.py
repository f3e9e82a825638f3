"""One request and its answer, forwarded over one upstream connection: bodies, flow control, framing.

The kinds of calls (`agent_call.py`, `api_call.py`) say where the upstream comes from and what happens when it is lost.
Everything runs in protocol callbacks: a warm call makes no task and no future.
"""

from __future__ import annotations

import math
from typing import Protocol

from local.gateway.heads import CHUNKS_END, NOTHING, Fields, answer_head, chunk, problem_answer, upgrade_head
from local.gateway.requests import Request
from local.gateway.settings import Limits
from local.gateway.upstream import CHUNKED, NO_BODY, UNTIL_CLOSE, UpstreamConnection
from orchestrator_runtime.contract.errors import Problem, TooLarge

REPLAYABLE_BYTES = 64 * 1024  # of a request body are kept, to send it again if an instance is lost before its admission
CLIENT_CLOSED = 499  # in metrics only: the caller went before there was an answer


class Caller(Protocol):
    """Who asked, and gets the answer: a connection, or the server (`run.dispatch`)."""

    peer: str
    secure: bool
    """Whether it came by TLS."""
    full: bool
    """Whether it does not read what was written to it: whoever answers it then waits."""

    def write(self, data: bytes) -> None: ...

    def done(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        ...

    def cut(self) -> None:
        """The answer cannot be completed."""
        ...

    def hold(self) -> None:
        """Stop reading the request's body for now."""
        ...

    def go_on(self) -> None: ...

    def tunnel(self) -> None:
        """From now on both directions are bytes."""
        ...


class Exchange:
    """Base of a forwarded call. `caller` is None once it has gone or has been answered otherwise."""

    def __init__(self, request: Request, caller: Caller, *, limits: Limits, body_limit: int, correlation: str) -> None:
        self.request = request
        self.caller: Caller | None = caller
        self.correlation = correlation
        self.deadline = math.inf
        self.complete = not request.chunked and not request.length  # the whole request was received
        self.status = 0
        self.problem: Problem | None = None  # what was answered instead of an upstream's answer
        self.upstream: UpstreamConnection | None = None
        self._limits = limits
        self._body_limit = body_limit
        self.received = 0  # bytes of the request's body
        self._pieces: list[bytes] | None = []  # the body as it is sent upstream; None once it is too large to keep
        self._pieces_size = 0
        self._deaf = False  # the upstream is not read
        self._wrote = False
        self._answer_chunked = False
        self._keep_alive = False
        self._tunnel = False
        self._withheld_answer = NOTHING  # names of the answer's fields that the caller does not get
        if request.length is not None and request.length > body_limit:
            raise self._too_large()

    # what a kind of call says

    @property
    def queued(self) -> bool:
        """Whether it still waits for somebody to work on it."""
        return False

    def _added_to_answer(self) -> bytes:
        raise NotImplementedError

    def _upstream_done(self, connection: UpstreamConnection) -> None:
        """The answer is complete; `connection` may be kept if it still can be used."""
        raise NotImplementedError

    def _upstream_lost(self) -> None:
        """The upstream broke before its answer was complete."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Nothing more will happen to this call: give everything back. May come more than once."""
        raise NotImplementedError

    def expired(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    def caller_gone(self) -> None:
        """The caller has closed its connection."""
        raise NotImplementedError

    # from the caller

    def request_body(self, data: bytes) -> None:
        if self._tunnel:
            self._forward(data)
            return
        self.received += len(data)
        if self.received > self._body_limit:
            self.fail(self._too_large())
            return
        self._forward(chunk(data) if self.request.chunked else data)

    def request_ended(self) -> None:
        if self.complete:
            return
        self.complete = True
        if self.request.chunked:
            self._forward(CHUNKS_END)

    def caller_full(self) -> None:
        if not self._deaf and self.upstream is not None and self.upstream.transport is not None:
            self._deaf = True
            self.upstream.transport.pause_reading()

    def caller_drained(self) -> None:
        if self._deaf and self.upstream is not None and self.upstream.transport is not None:
            self._deaf = False
            self.upstream.transport.resume_reading()

    def _forward(self, piece: bytes) -> None:
        if self.upstream is not None:
            self.upstream.write(piece)
        if self._pieces is None or self._tunnel:
            return
        self._pieces.append(piece)
        self._pieces_size += len(piece)
        if self.upstream is not None and self._pieces_size > REPLAYABLE_BYTES:
            self._pieces = None
        elif self.upstream is None and self._pieces_size > self._limits.high_water and self.caller is not None:
            self.caller.hold()

    def _attach(self, connection: UpstreamConnection, head: bytes) -> None:
        """Send the request, as far as it has come, over this connection."""
        connection.start(self, head_request=self.request.method == b"HEAD")
        self.upstream = connection
        self._deaf = False
        if self.caller is not None and self.caller.full:  # of an answer before this one
            self.caller_full()
        assert self._pieces is not None
        connection.write(b"".join((head, *self._pieces)) if self._pieces else head)
        if self._pieces_size > REPLAYABLE_BYTES:
            self._pieces = None
        if self.caller is not None and not self.complete:
            self.caller.go_on()

    # from the upstream

    def answer_head(self, status: int, fields: Fields, length: int) -> None:
        if self.caller is None:  # it went, or was told something else: that stays what happened
            self.status = self.status or status
            return
        self.status = status
        request = self.request
        self._answer_chunked = length in {CHUNKED, UNTIL_CLOSE} and request.modern
        delimited = self._answer_chunked or length >= 0 or length == NO_BODY
        self._keep_alive = request.keep_alive and delimited and self.complete
        added = self._added_to_answer()
        if self._answer_chunked:
            added += b"transfer-encoding: chunked\r\n"
        elif length >= 0:
            added += b"content-length: %d\r\n" % length
        if not self._keep_alive:
            added += b"connection: close\r\n"
        elif not request.modern:
            added += b"connection: keep-alive\r\n"
        self._wrote = True
        self.caller.write(answer_head(status, fields, added, withheld=self._withheld_answer))

    def answer_body(self, data: bytes) -> None:
        if self.caller is not None:
            self.caller.write(chunk(data) if self._answer_chunked else data)

    def answer_end(self) -> None:
        self.caller_drained()  # or the connection would be deaf to whoever uses it next
        connection, self.upstream = self.upstream, None
        if connection is not None:
            if self.complete and not self._tunnel:
                self._upstream_done(connection)
            else:
                connection.abort()
        caller, self.caller = self.caller, None
        self._settle()
        if caller is not None:
            if self._answer_chunked and self.request.method != b"HEAD":
                caller.write(CHUNKS_END)
            caller.done(keep_alive=self._keep_alive and not self._tunnel)

    def answer_upgraded(self, fields: Fields) -> None:
        if self.caller is None or self.request.upgrade is None:
            self.upstream_lost()
            return
        self.status = 101
        self._wrote = self._tunnel = True
        self.deadline = math.inf
        self.caller.write(upgrade_head(fields, self._added_to_answer(), withheld=self._withheld_answer))
        self.caller.tunnel()

    def upstream_lost(self) -> None:
        connection, self.upstream = self.upstream, None
        if connection is not None:
            connection.abort()
        self._upstream_lost()

    def upstream_full(self) -> None:
        if self.caller is not None:
            self.caller.hold()

    def upstream_drained(self) -> None:
        if self.caller is not None:
            self.caller.go_on()

    # ends that are not an answer of the upstream

    def fail(self, problem: Problem) -> None:
        """Answer with a problem if nothing was written yet, else cut; the upstream request is broken off."""
        connection, self.upstream = self.upstream, None
        if connection is not None:
            connection.abort()
        self.tell(problem)
        self._settle()

    def tell(self, problem: Problem) -> None:
        """Answer the caller with a problem, or cut; what happens upstream goes on without a caller."""
        caller, self.caller = self.caller, None
        self.caller_drained()
        if caller is None:
            return
        self.problem = problem
        if self._wrote:
            caller.cut()
            return
        self.status = problem.status
        keep_alive = self.request.keep_alive and self.complete
        data = problem_answer(problem, correlation=self.correlation, close=not keep_alive, secure=caller.secure)
        if self.request.method == b"HEAD":
            data = data[: data.index(b"\r\n\r\n") + 4]
        caller.write(data)
        caller.done(keep_alive=keep_alive)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The body has more than {self._body_limit} bytes",
            code="payload_too_large",
            hint="Send less, or raise payload_limit in agent.yaml.",
            limit=self._body_limit,
        )
