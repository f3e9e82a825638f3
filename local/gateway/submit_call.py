"""A call with `Prefer: respond-async`: its input is handed to the server, and answered with 202 after the commit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from local.gateway.agent_call import Identity, Surroundings
from local.gateway.body_budget import BodyAccount
from local.gateway.exchange import CLIENT_CLOSED, Caller, Exchange
from local.gateway.heads import answer, nominated
from local.gateway.requests import Request
from local.gateway.routes import RevisionRoute
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.wire import Message

COMMIT_TIMEOUT = 30.0  # seconds that a caller waits for the commit, also across a restart of the server
RESPOND_ASYNC = "respond-async"
EVENT_PREFIX = b"ce-"  # of header fields that hold a CloudEvent's attributes (binary content mode)


def asks_for_async(request: Request) -> bool:
    """Whether Prefer (RFC 7240) names respond-async."""
    prefer = request.first.get(b"prefer")
    if prefer is None:
        return False
    return RESPOND_ASYNC in {word.strip().lower() for word in prefer.decode("latin-1").replace(";", ",").split(",")}


def admission(request: Request, identity: Identity, *, target: bytes, timeout: float) -> dict[str, Any]:
    """The journal's `Admission` of this call, for the server to record."""
    path, _, query = target.decode("latin-1").partition("?")

    def value(name: str) -> str | None:
        found = request.first.get(name.encode())
        return None if found is None else found.decode("latin-1")

    content_type = value("content-type") or ""
    attributes = {
        name[len(EVENT_PREFIX) :].decode("latin-1"): unquote(found.decode("latin-1"))
        for name, found in request.fields
        if name.startswith(EVENT_PREFIX)
    }
    is_event = "specversion" in attributes or content_type.startswith("application/cloudevents")
    fields: dict[str, Any] = {
        "run": identity.run,
        "trigger": "event" if is_event else "http",
        "request": {
            "method": request.method.decode(),
            "path": path,
            "query": query,
            "content_type": content_type,
            **({"attributes": attributes} if is_event and attributes else {}),
        },
        "headers": headers.kept(_end_to_end(request)),
        "deadline": timeout,
        "correlation": identity.correlation,
        "caller": identity.caller,
        "key": value(headers.IDEMPOTENCY_KEY),
        "session": value(headers.SESSION),
        "traceparent": value(headers.TRACEPARENT),
    }
    return {name: given for name, given in fields.items() if given is not None}


def _end_to_end(request: Request) -> Iterator[tuple[str, str]]:
    """The fields without those that are for one connection only."""
    dropped = nominated(request.first)
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.fields if name not in dropped)


class SubmitCall(Exchange):
    """Collects the body, then hands it over; it never sees an instance."""

    def __init__(
        self,
        request: Request,
        caller: Caller,
        *,
        around: Surroundings,
        route: RevisionRoute,
        identity: Identity,
        target: bytes,
        body_limit: int,
    ) -> None:
        body_limit = min(body_limit, around.limits.async_bytes)
        super().__init__(request, caller, limits=around.limits, body_limit=body_limit, correlation=identity.correlation)
        self._around = around
        self._route = route
        self._identity = identity
        self._target = target
        self._body = bytearray()
        self._kept = BodyAccount(around.bodies)  # until the server has it

    def start(self) -> None:
        """A request without a body is handed over at once."""
        if self.complete:
            self._around.spawn(self._submit())

    def request_ended(self) -> None:
        if not self.complete:
            self.complete = True
            self._around.spawn(self._submit())

    def _forward(self, piece: bytes) -> None:
        raise NotImplementedError  # nothing is forwarded: `request_body` collects

    def request_body(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > self._body_limit:
            self.fail(self._too_large())
            return
        try:
            self._kept.hold(len(data))
        except Unavailable as problem:
            self.fail(problem)
            return
        self._body += data

    async def _submit(self) -> None:
        fields = {
            "organization": self._route.organization,
            "agent": self._route.agent,
            "revision": self._route.name,
            **admission(self.request, self._identity, target=self._target, timeout=self._route.timeout),
        }
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                reply = await self._around.journal.call("run.submit", fields, bytes(self._body))
        except TimeoutError:
            self.tell(
                Unavailable(
                    "The run could not be recorded in time", code="server_unavailable", hint="Try again in a moment."
                )
            )
        except Problem as problem:
            self.tell(problem)
        else:
            self._accepted(reply)
        finally:
            self._kept.release()

    def _accepted(self, reply: Message) -> None:
        caller, self.caller = self.caller, None
        if caller is None:
            return
        run = reply.fields["run"]
        address = f"/api/v1/runs/{run}"
        keep_alive = self.request.keep_alive
        described = {"run": run, "state": reply.fields.get("state"), "url": address}
        body = b"" if self.request.method == b"HEAD" else json.dumps(described).encode()
        fields = [
            ("location", address),
            (headers.RUN_ADDRESS, address),
            ("preference-applied", RESPOND_ASYNC),
            (headers.CORRELATION_ID, self.correlation),
            (headers.REVISION, self._route.name),
        ]
        self.status = 202
        caller.write(answer(202, body, content_type="application/json", fields=fields, close=not keep_alive))
        caller.done(keep_alive=keep_alive)

    def _settle(self) -> None:
        """It was refused before its body was complete."""
        self._kept.release()

    def expired(self) -> None:
        """There is no deadline but that of the commit."""

    def caller_gone(self) -> None:
        """A run whose whole input came is recorded all the same."""
        self.caller = None
        self.status = self.status or CLIENT_CLOSED
        if not self.complete:
            self._kept.release()
