"""What an instance does with a call: from a request to an admission, and from an outcome to an answer.

Any path and method is the agent's. Every call must prove that the platform makes it, and is admitted by the journal
before the agent hears of it. A caller that goes away ends nothing.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from pydantic_core import to_json

from orchestrator_runtime.attempt import CANCELLED, Attempt, Outcome, recorded
from orchestrator_runtime.connection import BODILESS, Connection, Fields, Received
from orchestrator_runtime.contract import headers as names
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, Problem, TooLarge, Unauthenticated
from orchestrator_runtime.contract.ids import uuid7
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.contract.journal import fingerprint
from orchestrator_runtime.frameworks import values
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Input
from orchestrator_runtime.journal import JournalClient
from orchestrator_runtime.telemetry import create_tracer

EVENT_STREAM = "text/event-stream"
ADMISSION_PATIENCE = 30.0  # seconds that a call waits for a journal that is away
SPANS_PATIENCE = 5.0  # seconds that spans do, of which nothing depends
NOT_OURS_TO_SEND = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "trailer"})
NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # of a header field: a token (RFC 9110)


class App:
    """`end_output(run)` is called after each run that has ended here, `on_idle()` whenever no call is left.

    `on_stuck(run)`: its code does not stop though it was told to. `client` is to be run in the event loop.
    """

    def __init__(
        self,
        start: InstanceStart,
        *,
        journal: str,
        redact: Callable[[str], str],
        end_output: Callable[[str], None],
        on_idle: Callable[[], None],
        on_stuck: Callable[[str], None],
    ) -> None:
        self.calls = 0
        self.agent: Agent  # is loaded after this was made
        self.client = JournalClient(start.journal_token, on_cancel=self._cancel, path=journal)
        self._start = start
        self._redact = redact
        self._end_output = end_output
        self._on_idle = on_idle
        self._on_stuck = on_stuck
        self._tracer = create_tracer(start, self._send_spans)
        self._token = start.call_token.encode()
        self._attempts: dict[str, Attempt] = {}

    def _cancel(self, run: str) -> None:
        if run in self._attempts:
            self._attempts[run].stop(CANCELLED)

    async def _send_spans(self, body: bytes) -> None:
        await self.client.call("spans", {}, body, patience=SPANS_PATIENCE)

    async def close(self) -> None:
        """All calls are answered: say what is left to say."""
        if self._tracer is not None:
            await self._tracer.close()

    async def handle(self, received: Received, connection: Connection) -> None:
        """Answer a call."""
        self.calls += 1
        reply = Reply(connection)
        try:
            await self._answer(Request(received), received.body, reply)
        except Problem as problem:
            await reply.problem(problem)
        finally:
            self.calls -= 1
            if self.calls == 0:
                self._on_idle()

    async def _answer(self, request: Request, body: bytes | None, reply: Reply) -> None:
        reply.add(names.CORRELATION_ID, request.correlation)
        if not hmac.compare_digest(request.headers.get(names.CALL_TOKEN, "").encode(), self._token):
            raise Unauthenticated(
                "This call does not come from the platform",
                code="call_token_invalid",
                hint="Call the agent at the platform's own address, /agents/NAME.",
            )
        if names.PROBE in request.headers:
            await reply.answer(Answer(status=204))
            return
        if body is None:
            raise TooLarge(
                f"The body has more than {self._start.payload_limit} bytes",
                code="payload_too_large",
                hint="Send less, or raise payload_limit in agent.yaml.",
                limit=self._start.payload_limit,
            )
        admission = request.admission(body, deadline=self._start.timeout)
        admitted = await self.client.call(
            "admit", admission, b"" if request.dispatched else body, patience=ADMISSION_PATIENCE
        )
        fields = admitted.fields
        run = fields["run"]
        reply.add(names.RUN_ADDRESS, f"/api/v1/runs/{run}")
        reply.add(names.RUN_ATTEMPT, str(fields["attempt"]))
        if fields["outcome"] == "finished":
            outcome = recorded(fields["ending"], admitted.body)
        elif run in self._attempts and self._attempts[run].journal.epoch == fields["epoch"]:
            outcome = await self._attempts[run].outcome  # the same call came twice
        else:
            if request.dispatched:
                request = Request.dispatched_as(fields["request"], fields.get("headers") or {}, request)
                body = admitted.body
            outcome = await self._attempt(fields, request, body, reply)
        answer = outcome.in_full()
        if answer is not None:
            await reply.answer(answer)
        elif request.dispatched:
            await reply.answer(Answer(status=204))
        else:
            reply.abort()  # whoever forwards the call asks the journal for the answer of the next attempt

    async def _attempt(self, admitted: Mapping[str, Any], request: Request, body: bytes, reply: Reply) -> Outcome:
        run = admitted["run"]
        trace = None
        if self._tracer is not None:
            described = {"orchestrator.run": run, "orchestrator.run.attempt": admitted["attempt"]}
            trace = self._tracer.begin(request.traceparent, **described)
        attempt = self._attempts[run] = Attempt(
            self.client,
            admitted,
            agent=self.agent,
            redact=self._redact,
            timeout=self._start.timeout,
            grace=self._start.grace,
            on_stuck=self._on_stuck,
            network=self._start.network,
            trace=trace,
        )
        try:
            # In the form of the first attempt: what a model is asked differs with it, and so does what is recorded.
            emit = _emit_to_nobody if request.dispatched else reply.emit
            return await attempt.execute(partial(request.input, body), stream=request.stream, emit=emit)
        finally:
            if self._attempts.get(run) is attempt:
                del self._attempts[run]
            self._end_output(run)


class Request:
    """The head of a request."""

    def __init__(self, received: Received) -> None:
        self.method = received.method
        self.path, _, self.query = received.target.partition("?")
        self.headers = received.headers
        self.content_type = self.headers.get("content-type", "")
        self.attributes: Mapping[str, Any] | None = None
        self.dispatched = self.headers.get(names.DISPATCH) == "1"
        self.stream = EVENT_STREAM in self.headers.get("accept", "")
        self.run = self.headers.get(names.RUN_ID) or uuid7()
        self.traceparent = self.headers.get(names.TRACEPARENT)
        self.correlation = self.headers.get(names.CORRELATION_ID) or self.run

    @classmethod
    def dispatched_as(
        cls, recorded_request: Mapping[str, Any], recorded_headers: Mapping[str, str], carrier: Request
    ) -> Request:
        """A request as it was recorded, which the platform sends by `carrier`."""
        request = cls.__new__(cls)
        request.__dict__.update(carrier.__dict__)
        request.method = recorded_request.get("method", carrier.method)
        request.path = recorded_request.get("path", carrier.path)
        request.query = recorded_request.get("query", carrier.query)
        request.content_type = recorded_request.get("content_type", carrier.content_type)
        request.headers = {**recorded_headers, names.CORRELATION_ID: carrier.correlation}
        if request.content_type:
            request.headers["content-type"] = request.content_type
        request.attributes = recorded_request.get("attributes")
        request.stream = bool(recorded_request.get("stream"))
        return request

    def admission(self, body: bytes, *, deadline: float) -> dict[str, Any]:
        """What the journal is asked; see `contract.journal.Admission`."""
        headers = self.headers
        request: dict[str, Any] = {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "content_type": self.content_type,
        }
        if self.stream:
            request["stream"] = True
        is_event = values.is_event(headers)
        if is_event:
            request["attributes"] = values.event_attributes(headers)
        fields: dict[str, Any] = {
            "run": self.run,
            "trigger": "event" if is_event or self.content_type.startswith(values.EVENT_TYPES) else "http",
            "request": request,
            "deadline": deadline,
            "correlation": self.correlation,
        }
        key = headers.get(names.IDEMPOTENCY_KEY)
        if self.dispatched:
            fields["dispatched"] = True
        else:
            if kept := names.kept(headers.items()):
                fields["headers"] = kept
            if key:
                fields["key"] = key
                fields["fingerprint"] = fingerprint(request, body)
        for name, header in (
            ("session", names.SESSION),
            ("traceparent", names.TRACEPARENT),
            ("caller", names.CALLER),
        ):
            if header in headers:
                fields[name] = headers[header]
        return fields

    def input(self, body: bytes) -> Input:
        return values.create_input(
            body,
            content_type=self.content_type,
            method=self.method,
            path=unquote(self.path),
            query=self.query,
            headers=_public(self.headers),
            attributes=self.attributes,
        )


class Reply:
    """What goes back to the caller: one answer, or server-sent events of which the last is the answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._headers: Fields = []
        self._is_stream = False

    def add(self, name: str, value: str) -> None:
        """A header field of whatever will be answered."""
        self._headers.append((name.encode("latin-1", "replace"), _one_line(value)))

    async def emit(self, event: str, value: Any) -> None:
        """Send one event now; `value` is JSON. Only for callers that take a stream."""
        await self._send_event(event, to_json(value, fallback=str, inf_nan_mode="null"))

    async def answer(self, answer: Answer) -> None:
        if self._is_stream:
            name = "problem" if answer.content_type == PROBLEM_CONTENT_TYPE else "result"
            await self._send_event(name, _as_data(answer))
            self._connection.finish()
            return
        if answer.status not in BODILESS:
            self.add("content-type", answer.content_type)
        for name, value in answer.headers.items():
            if name.lower() not in NOT_OURS_TO_SEND and NAME.fullmatch(name):
                self.add(name, value)
        self._connection.answer(answer.status, self._headers, answer.body)

    async def problem(self, problem: Problem) -> None:
        answer = Outcome(problem=problem).in_full()
        assert answer is not None
        await self.answer(answer)

    def abort(self) -> None:
        """Break the connection; there is no answer here."""
        self._connection.abort()

    async def _send_event(self, name: str, data: bytes) -> None:
        if not self._is_stream:
            self._is_stream = True
            self.add("content-type", EVENT_STREAM)
            self.add("cache-control", "no-store")
            self._connection.begin(200, self._headers)
        lines = b"\ndata: ".join(data.splitlines() or [b""])
        await self._connection.send(b"event: %b\ndata: %b\n\n" % (_one_line(name), lines))


async def _emit_to_nobody(event: str, value: Any) -> None:
    """Whoever was following the run's first attempt has gone."""


def _as_data(answer: Answer) -> bytes:
    """An answer as JSON, for the last event of a stream."""
    if values.is_json(answer.content_type):
        return answer.body or b"null"
    if answer.content_type.startswith("text/"):
        return json.dumps(answer.body.decode(errors="replace")).encode()
    return to_json({"content_type": answer.content_type, "base64": answer.body}, bytes_mode="base64")


def _public(headers: Mapping[str, str]) -> dict[str, str]:
    """What an agent may see: not the token that proves who called it."""
    return {name: value for name, value in headers.items() if name != names.CALL_TOKEN}


def _one_line(value: str) -> bytes:
    """A value that cannot end its own line."""
    if not value.isprintable():
        value = value.translate({10: " ", 13: " ", 0: " "})
    return value.encode("latin-1", "replace")
