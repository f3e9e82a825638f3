"""A call of an agent: it waits for an instance, is forwarded, and outlives both its caller and its instance.

A caller that goes does not end a run: its answer is read to the end and dropped. An instance that goes does not end it
either: the journal is asked for the answer of the attempt that the server makes next.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from domain.clock import Clock
from local.gateway.body_budget import BodyAccount, BodyBudget
from local.gateway.exchange import CLIENT_CLOSED, Caller, Exchange
from local.gateway.heads import (
    COOKIES,
    CREDENTIAL,
    GUEST_LINES,
    NOTHING,
    answer,
    forwarded,
    lines_of,
    may_be_answered,
    request_head,
)
from local.gateway.requests import Request
from local.gateway.revisions import Instance, ServedRevision
from local.gateway.settings import Limits
from local.gateway.upstream import UpstreamConnection
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import BadGateway, Problem, TimedOut, Unavailable, from_document
from orchestrator_runtime.contract.states import TERMINAL_RUN_STATES
from orchestrator_runtime.contract.wire import Message

SENT_AT_MOST = 3  # a call that was never admitted is sent to so many instances
RESULT_WAIT = 30.0  # seconds of one `run.result`
OWN_ENDING = 0.5  # seconds that the runtime has to say itself that the time is over
GUEST = lines_of(GUEST_LINES)
GUEST_CALLER = CREDENTIAL | COOKIES


class Journal(Protocol):
    """The server, as far as a call needs it. Waits and repeats while the server is away."""

    async def call(self, operation: str, fields: dict[str, Any], body: bytes = b"") -> Message: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all agent calls share."""

    clock: Clock
    limits: Limits
    bodies: BodyBudget
    journal: Journal
    spawn: Callable[[Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What we vouch for towards the instance."""

    run: str
    caller: str
    correlation: str
    dispatched: bool = False

    def lines(self) -> bytes:
        text = (
            f"{headers.RUN_ID}: {self.run}\r\n{headers.CALLER}: {self.caller}\r\n"
            f"{headers.CORRELATION_ID}: {self.correlation}\r\n"
        )
        return (text + (f"{headers.DISPATCH}: 1\r\n" if self.dispatched else "")).encode()


class AgentCall(Exchange):
    """One call. Made by the gateway, or for a run that the server dispatches.

    `guest`: the agent is called at the origin of the API (`heads.GUEST_LINES`).
    """

    def __init__(
        self,
        request: Request,
        caller: Caller,
        *,
        around: Surroundings,
        revision: ServedRevision,
        identity: Identity,
        target: bytes,
        body_limit: int,
        withhold_credential: bool = True,
        guest: bool = False,
        timeout: float | None = None,
    ) -> None:
        super().__init__(request, caller, limits=around.limits, body_limit=body_limit, correlation=identity.correlation)
        self._around = around
        self._revision = revision
        self._identity = identity
        self._target = target
        self._guest = guest
        if guest:
            self._withheld = GUEST_CALLER if withhold_credential else COOKIES
            self._withheld_answer = COOKIES
        else:
            self._withheld = CREDENTIAL if withhold_credential else NOTHING
        self._timeout = revision.route.timeout if timeout is None else timeout
        self._instance: Instance | None = None
        self._sent = 0
        self._settled = False
        self._waiting = False
        self._kept = BodyAccount(around.bodies)  # while it waits
        self._peer, self._secure = caller.peer, caller.secure
        self._started_at = around.clock.monotonic()
        self.deadline = self._started_at + self._timeout

    def start(self) -> None:
        """Go to an instance, or wait for one. Raises `Unavailable` if there is no room to wait."""
        self._waiting = True
        try:
            instance = self._revision.acquire(self)
        except Problem as problem:
            self._waiting, self.caller, self.status = False, None, problem.status
            self._settle()
            raise
        if instance is not None:
            self.assigned(instance)

    # Waiter

    @property
    def queued(self) -> bool:
        return self._waiting

    def assigned(self, instance: Instance) -> None:
        self._waiting = False
        self._kept.release()
        self._instance = instance
        self._sent += 1
        self.deadline = self._around.clock.monotonic() + self._timeout + OWN_ENDING
        connection = instance.origin.take()
        if connection is not None:
            self._attach(connection, self._head(instance))
        else:
            self._around.spawn(self._connect(instance))

    def refused(self, problem: Problem) -> None:
        self._waiting = False
        self.fail(problem)

    async def _connect(self, instance: Instance) -> None:
        try:
            connection = await instance.origin.connect()
        except OSError:  # it went while this call was on its way
            if not self._settled:
                self._upstream_lost()
            return
        if self._settled or self._instance is not instance:
            connection.abort()
        else:
            self._attach(connection, self._head(instance))

    def _head(self, instance: Instance) -> bytes:
        host = self.request.first.get(b"host") or b"localhost"
        added = self._identity.lines() + instance.call_token_line + forwarded(self._peer, host, secure=self._secure)
        return request_head(self.request, self._target, added, withheld=self._withheld, upgrade=True)

    # Exchange

    def _forward(self, piece: bytes) -> None:
        if self._waiting:
            try:
                self._kept.hold(len(piece))
            except Unavailable as problem:
                self.fail(problem)
                return
        super()._forward(piece)

    def _added_to_answer(self) -> bytes:
        added = f"{headers.CORRELATION_ID}: {self.correlation}\r\n{headers.REVISION}: {self._revision.route.name}\r\n"
        return added.encode() + (GUEST if self._guest else b"")

    def _upstream_done(self, connection: UpstreamConnection) -> None:
        if self._instance is not None:
            self._instance.origin.give(connection)
        self._revision.succeeded()

    def _upstream_lost(self) -> None:
        self._free_instance()
        # The server knows itself what becomes of a run that it dispatches, and sends it again.
        if self._wrote or self.caller is None or self._tunnel or self._identity.dispatched:
            self.fail(self._instance_lost())
            return
        self._around.spawn(self._recover())

    def _free_instance(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            self._revision.release(instance)

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        self._kept.release()
        if self._waiting:
            self._waiting = False
            self._revision.leave(self)
        self._revision.signals.answered(self.status, self._around.clock.monotonic() - self._started_at)
        self._free_instance()

    def expired(self) -> None:
        """Still waiting: give up. Already with an instance: only the caller's wait ends."""
        self.deadline = math.inf
        if self._waiting:
            self.fail(
                TimedOut(
                    "activation timeout: no instance took the request in time",
                    code="activation_timeout",
                    hint="Raise scale.max, or look at the log: instances may be slow to start.",
                )
            )
            return
        problem = TimedOut(
            "request timeout",
            code="request_timeout",
            hint="Raise timeouts.run in agent.yaml, or send `Prefer: respond-async`.",
            **self._run_member(),
        )
        if self._instance is None or not self.complete:
            self.fail(problem)
        else:
            self.tell(problem)

    def caller_gone(self) -> None:
        """A run that has its whole request goes on; anything less is given up."""
        self.caller = None
        if self._instance is None or not self.complete or self._tunnel:
            self.status = self.status or CLIENT_CLOSED
            connection, self.upstream = self.upstream, None
            if connection is not None:
                connection.abort()
            self._settle()
        else:
            self.deadline = math.inf
            self.caller_drained()

    # an instance was lost

    async def _recover(self) -> None:
        """Answer with what the journal says; a call that the journal does not know is sent once more."""
        clock = self._around.clock
        self.deadline = clock.monotonic() + self._timeout + OWN_ENDING
        try:
            while not self._settled:
                wait = min(RESULT_WAIT, max(0.0, self.deadline - clock.monotonic()))
                reply = await self._around.journal.call("run.result", self._result_fields(wait))
                if self._settled:
                    return
                if not reply.fields.get("found"):
                    self._send_again()
                    return
                if reply.fields.get("state") in TERMINAL_RUN_STATES:
                    self._answer_recorded(reply)
                    return
        except Problem as problem:
            self.fail(problem)

    def _result_fields(self, wait: float) -> dict[str, Any]:
        route = self._revision.route
        key = self.request.first.get(headers.IDEMPOTENCY_KEY.encode())
        fields: dict[str, Any] = {
            "organization": route.organization,
            "agent": route.agent,
            "run": self._identity.run,
            "wait": wait,
        }
        return fields if key is None else {**fields, "key": key.decode("latin-1")}

    def _send_again(self) -> None:
        if self._sent >= SENT_AT_MOST or self._pieces is None:
            self.fail(self._instance_lost())
            return
        caller = self.caller
        try:
            self.start()
        except Problem as problem:
            self.caller = caller
            self.tell(problem)

    def _answer_recorded(self, reply: Message) -> None:
        """The answer of a later attempt, as the journal has it."""
        ending = reply.fields.get("ending") or {}
        if "problem" in ending and not reply.body:
            self.fail(from_document(ending["problem"]))
            return
        caller, self.caller = self.caller, None
        self.status = int(ending.get("status", 200))
        self._settle()
        if caller is None:
            return
        run = reply.fields.get("run", self._identity.run)
        fields = [
            *(
                pair
                for pair in (ending.get("headers") or {}).items()
                if may_be_answered(pair[0], withheld=self._withheld_answer)
            ),
            (headers.RUN_ADDRESS, f"/api/v1/runs/{run}"),
            (headers.CORRELATION_ID, self.correlation),
            (headers.REVISION, self._revision.route.name),
            *(GUEST_LINES if self._guest else ()),
        ]
        keep_alive = self.request.keep_alive and self.complete
        content_type = ending.get("content_type", "application/json")
        body = b"" if self.request.method == b"HEAD" else reply.body
        caller.write(answer(self.status, body, content_type=content_type, fields=fields, close=not keep_alive))
        caller.done(keep_alive=keep_alive)

    def _instance_lost(self) -> BadGateway:
        return BadGateway(
            "The instance ended before its answer was complete",
            code="instance_lost",
            hint=f"Look at `orchestrator logs {self._revision.route.agent}`.",
            **self._run_member(),
        )

    def _run_member(self) -> dict[str, str]:
        """The run's address, unless an Idempotency-Key may have given it another identity."""
        if headers.IDEMPOTENCY_KEY.encode() in self.request.first:
            return {}
        return {"run": f"/api/v1/runs/{self._identity.run}"}


class Dispatched:
    """The server as a caller: it wants to know the status, nothing else; the answer is in the journal."""

    peer = "127.0.0.1"
    secure = False
    full = False

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        """The runtime has recorded it."""

    def done(self, *, keep_alive: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def cut(self) -> None:
        self.done(keep_alive=False)

    def hold(self) -> None:
        """The whole request is there already."""

    def go_on(self) -> None:
        """Nothing was held."""

    def tunnel(self) -> None:
        """A dispatched run asks for no upgrade."""
