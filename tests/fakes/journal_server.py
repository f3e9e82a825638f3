"""A journal in memory that speaks its protocol over a Unix socket: admission, fencing, replays, calls, sessions.

What it keeps survives `stop` and `start`, as the database survives a restart of the server. Commits are immediate.

    async with FakeJournal(path) as journal:
        ...                                   # an instance or a `JournalClient` uses the socket
        assert journal.runs["r-1"].state == "succeeded"
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from orchestrator_runtime.contract.errors import Conflict, NotFound, Problem, Unauthenticated, Unprocessable
from orchestrator_runtime.contract.journal import FENCED, PROTOCOL_VERSION
from orchestrator_runtime.contract.spans import Span, parse
from orchestrator_runtime.contract.wire import Handler, Message, Peer, with_parts
from tests.fakes.checkpoints import Checkpoints

OPEN = ("pending", "running", "waiting")


@dataclass(slots=True)
class KeptEvent:
    """A run event as it was sent, and the blob it named."""

    fields: dict[str, Any]
    content: bytes | None

    @property
    def kind(self) -> str:
        return str(self.fields["kind"])


@dataclass(slots=True)
class KeptRun:
    """One run. `batch` is the newest batch of events of the current attempt."""

    id: str
    admission: dict[str, Any]
    input: bytes
    state: str = "pending"
    epoch: int = 0
    attempt: int = 0
    instance: str | None = None
    batch: int = 0
    events: list[KeptEvent] = field(default_factory=list)
    ending: dict[str, Any] | None = None
    answer: bytes = b""
    waits: list[dict[str, Any]] = field(default_factory=list)
    later: list[asyncio.Future[None]] = field(default_factory=list)  # admissions that wait for this run to end

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class FakeJournal:
    """`token`: the only one it accepts, or None for any. `lose_reply` cuts the connection instead of replying once."""

    def __init__(self, path: Path, *, token: str | None = None) -> None:
        self.path = path
        self.token = token
        self.runs: dict[str, KeptRun] = {}
        self.keys: dict[str, str] = {}
        self.sessions: dict[str, bytes] = {}
        self.checkpoints = Checkpoints()
        self.spans: list[Span] = []
        self.received: list[str] = []  # operations, in order
        self.refusals: dict[str, Problem] = {}  # operation -> what it is answered with
        self.changed = asyncio.Event()
        self._losing: set[str] = set()
        self._peers: set[Peer] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        handlers: dict[str, Handler] = {name: self._handler(name, method) for name, method in self._methods().items()}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Peer(handlers, on_connected=self._peers.add, on_lost=self._peers.discard), str(self.path)
        )

    async def stop(self) -> None:
        """Break every connection and listen no more; what was kept stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        for peer in list(self._peers):
            peer.close()

    # what a test does

    def submit(self, run: str, body: bytes, **request: Any) -> KeptRun:
        """Record a run that waits to be dispatched."""
        described = {"method": "POST", "path": "/", "query": "", "content_type": "application/json", **request}
        kept = self.runs[run] = KeptRun(run, {"run": run, "request": described}, body, state="waiting")
        return kept

    def lose(self, run: str) -> None:
        """The attempt's instance is gone, as far as the journal knows: the next admission makes a new attempt."""
        kept = self.runs[run]
        kept.state, kept.instance = "waiting", None

    def retry(self, run: str) -> None:
        """A run that has ended is to be attempted again."""
        self.runs[run].ending = None
        self.lose(run)

    def cancel(self, run: str, *, grace: float = 5.0) -> None:
        for peer in self._peers:
            peer.notify("cancel", {"run": run, "grace": grace})

    def lose_reply(self, operation: str) -> None:
        """Do the next such operation, but break the connection instead of answering it."""
        self._losing.add(operation)

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait, without polling, until something that instances asked for makes this true."""
        while not happened():
            self.changed.clear()
            await self.changed.wait()

    # the protocol

    def _methods(self) -> dict[str, Callable[[Peer, Message], Any]]:
        return {
            "hello": self._hello,
            "admit": self._admit,
            "append": self._append,
            "recorded": self._recorded,
            "end": self._end,
            "wait": self._wait,
            **{
                operation: partial(self._checkpoint, operation)
                for operation in map("checkpoint.{}".format, ("put", "writes", "get", "list", "delete"))
            },
            "session.get": self._session_get,
            "session.put": self._session_put,
            "spans": self._spans,
        }

    def _handler(self, name: str, method: Callable[[Peer, Message], Any]) -> Handler:
        def handle(peer: Peer, message: Message) -> Any:
            self.received.append(name)
            self.changed.set()
            if name in self.refusals:
                raise self.refusals[name]
            if name != "hello" and "instance" not in peer.state:
                raise Unauthenticated("Say hello first", code="journal_hello_missing")
            reply = method(peer, message)
            if name in self._losing:
                self._losing.discard(name)
                peer.close()
            return reply

        return handle

    def _hello(self, peer: Peer, message: Message) -> Message:
        token = message.fields["token"]
        if self.token is not None and token != self.token:
            raise Unauthenticated("The journal token is not one of ours", code="journal_token_invalid")
        peer.state["instance"] = token
        return Message({"protocol": PROTOCOL_VERSION})

    def _admit(self, peer: Peer, message: Message) -> Any:
        fields = message.fields
        run = self._known(fields)
        if run is None:
            if fields.get("dispatched"):
                raise NotFound(f"There is no run {fields['run']}", code="run_unknown")
            run = self.runs[fields["run"]] = KeptRun(fields["run"], fields, message.body)
            if "key" in fields:
                self.keys[fields["key"]] = run.id
        if run.ending is not None:
            return _finished(run)
        instance = peer.state["instance"]
        if run.state == "running" and (run.instance != instance or run.id != fields["run"]):
            return self._admit_later(run)
        if run.state != "running":
            run.state, run.instance, run.batch = "running", instance, 0
            run.epoch += 1
            run.attempt += 1
        return _started(run, dispatched=bool(fields.get("dispatched")))

    def _known(self, fields: dict[str, Any]) -> KeptRun | None:
        by_key = self.keys.get(fields.get("key", ""))
        run = self.runs.get(by_key or fields["run"])
        if run is not None and by_key and run.admission.get("fingerprint") != fields.get("fingerprint"):
            raise Unprocessable("This Idempotency-Key was used for another request", code="idempotency_key_reused")
        return run

    async def _admit_later(self, run: KeptRun) -> Message:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run.later.append(future)
        await future
        return _finished(run)

    def _held(self, message: Message) -> KeptRun:
        run = self.runs[message.fields["run"]]
        if run.state != "running" or run.epoch != message.fields["epoch"]:
            raise Conflict(f"Attempt {message.fields['epoch']} does not have run {run.id} any more", code=FENCED)
        return run

    def _checkpoint(self, operation: str, _: Peer, message: Message) -> Message:
        if operation in ("checkpoint.put", "checkpoint.writes"):
            self._held(message)
        return self.checkpoints.handle(operation, message.fields.get("run", ""), message)

    def _append(self, _: Peer, message: Message) -> Message:
        run, blobs = self._held(message), message.parts()
        batch = message.fields.get("batch", 0)
        if not batch or batch > run.batch:
            run.batch = batch or run.batch
            for event in message.fields["events"]:
                part = event.get("part")
                run.events.append(KeptEvent(event, None if part is None else blobs[part]))
        return Message({"seq": len(run.events)})

    def _recorded(self, _: Peer, message: Message) -> Message:
        calls: list[dict[str, Any]] = []
        blobs: list[bytes] = []
        for event in self.runs[message.fields["run"]].events:
            if event.kind == "step.succeeded" and "call" in event.fields:
                calls.append({**event.fields["call"], "part": len(blobs)})
                blobs.append(event.content or b"")
        return with_parts({"calls": calls}, blobs)

    def _end(self, _: Peer, message: Message) -> Message:
        repeated = self.runs[message.fields["run"]]
        if repeated.ending is not None and repeated.epoch == message.fields["epoch"]:
            return Message({"state": repeated.state})
        run = self._held(message)
        names = ("state", "status", "content_type", "headers", "problem", "retryable", "usage")
        run.ending = {name: message.fields[name] for name in names if name in message.fields}
        run.answer, run.state = message.body, run.ending["state"]
        for future in run.later:
            if not future.done():
                future.set_result(None)
        return Message({"state": run.state})

    def _wait(self, _: Peer, message: Message) -> None:
        run = self._held(message)
        run.waits.append({name: message.fields[name] for name in ("reason", "until")})
        run.state, run.instance = "waiting", None

    def _session_get(self, _: Peer, message: Message) -> Message:
        state = self.sessions.get(message.fields["session"])
        return Message({"found": state is not None}, state or b"")

    def _session_put(self, _: Peer, message: Message) -> None:
        self._held(message)
        self.sessions[message.fields["session"]] = message.body

    def _spans(self, _: Peer, message: Message) -> None:
        self.spans += parse(message.body)


def _started(run: KeptRun, *, dispatched: bool) -> Message:
    fields = {"run": run.id, "outcome": "started", "epoch": run.epoch, "attempt": run.attempt}
    calls = sum(event.kind == "step.succeeded" and "call" in event.fields for event in run.events)
    if calls:
        fields["recorded"] = calls
    if "session" in run.admission:
        fields["session"] = run.admission["session"]
    if dispatched:
        headers = {"headers": run.admission["headers"]} if "headers" in run.admission else {}
        return Message({**fields, "request": run.admission["request"], **headers}, run.input)
    return Message(fields)


def _finished(run: KeptRun) -> Message:
    fields = {"run": run.id, "outcome": "finished", "epoch": run.epoch, "attempt": run.attempt, "ending": run.ending}
    return Message(fields, run.answer)
