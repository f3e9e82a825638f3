"""The journal as an instance sees it: one connection that outlives the server, and a `RunContext` per attempt.

Every operation of the protocol may be repeated, so what was not answered when a connection broke is sent again over
the next one. Events of an attempt leave in order, one batch at a time: whatever was recorded while the previous batch
was being committed is the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from orchestrator_runtime.contract import wire
from orchestrator_runtime.contract.errors import BadInput, Problem, Unavailable
from orchestrator_runtime.contract.ids import uuid7
from orchestrator_runtime.contract.instance import JOURNAL_SOCKET
from orchestrator_runtime.contract.journal import FENCED, PROTOCOL_VERSION, Ending
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.contract.wire import Message, Peer
from orchestrator_runtime.telemetry import RunTrace

DELAYS = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds between attempts to connect; the last one repeats
AT_ONCE = 500  # events in one batch
BYTES_AT_ONCE = 16 * 1024 * 1024  # of their contents; a batch has at least one event
ERROR_TEXT = 4000  # characters of an error's message that are kept


class JournalClient:
    """The connection. `on_cancel(run)` is called when a person wants a run to stop.

    Made in the event loop it works in; `run()` keeps it connected until it is cancelled.
    """

    def __init__(self, token: str, *, on_cancel: Callable[[str], None], path: str = JOURNAL_SOCKET) -> None:
        self._token = token
        self._path = path
        self._on_cancel = on_cancel
        self._peer: Peer | None = None
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Connect, and connect again."""
        failures = 0
        try:
            while True:
                peer = await self._connect()
                if peer is None:
                    await asyncio.sleep(DELAYS[min(failures, len(DELAYS) - 1)])
                    failures += 1
                    continue
                failures = 0
                self._peer = peer
                self._connected.set()
                await peer.lost
        finally:
            self._lose()

    async def renew(self, token: str) -> None:
        """Use a fresh token from now on, on this connection too."""
        self._token = token
        if self._peer is not None:
            try:
                await self._hello(self._peer)
            except Problem:  # the connection goes on with what it had, or is gone: the next one says the new token
                return

    async def call(
        self, operation: str, fields: dict[str, Any], body: bytes = b"", *, patience: float | None = None
    ) -> Message:
        """Do an operation. Repeats it over the next connection if this one breaks before the reply.

        `patience`: seconds to wait for a connection, then `Unavailable` (`journal_unavailable`) is raised; None: what
        is unavailable is tried again for ever. Raises whatever other problem the journal answers.
        """
        while True:
            peer = self._peer or await self._wait(patience)
            try:
                return await peer.start_call(operation, fields, body)
            except Unavailable as problem:
                if problem.code == "connection_lost":
                    continue
                if patience is not None:
                    raise
            await asyncio.sleep(DELAYS[-1])  # it is busy, or its disk is full: what was done must still be recorded

    async def _wait(self, patience: float | None) -> Peer:
        try:
            async with asyncio.timeout(patience):
                while self._peer is None:
                    await self._connected.wait()
                return self._peer
        except TimeoutError:
            raise Unavailable(
                "The run could not be recorded: the journal does not answer",
                code="journal_unavailable",
                hint="Try again in a moment.",
            ) from None

    async def _connect(self) -> Peer | None:
        """A connection that knows who we are; None if there is none to be had now."""
        try:
            peer = await wire.connect(self._path, {"cancel": self._cancel}, on_lost=self._lost)
        except OSError:
            return None
        try:
            await self._hello(peer)
        except Problem:  # it went away, or our token has expired and a fresh one is on its way
            peer.close()
            return None
        return peer

    async def _hello(self, peer: Peer) -> None:
        await peer.call("hello", {"protocol": PROTOCOL_VERSION, "token": self._token})

    def _cancel(self, _: Peer, message: Message) -> None:
        # Later: the admission of this very run may have come with the same read, and nobody has looked at it yet.
        asyncio.get_running_loop().call_soon(self._on_cancel, str(message.fields["run"]))

    def _lost(self, peer: Peer) -> None:
        if peer is self._peer:
            self._lose()

    def _lose(self) -> None:
        peer, self._peer = self._peer, None
        self._connected.clear()
        if peer is not None:
            peer.close()


@dataclass(slots=True)
class _Entry:
    """An event that waits to be committed; `committed` is None where nobody waits for it."""

    event: dict[str, Any]
    content: bytes | None
    committed: Future[None] | None = None


class RunJournal:
    """A `RunContext`: the run that an attempt works on. Made in the event loop.

    `on_fenced` is called once if another attempt has the run. `usage` sums the tokens of this attempt's model steps.
    """

    def __init__(
        self,
        client: JournalClient,
        admitted: Mapping[str, Any],
        *,
        on_fenced: Callable[[], None],
        trace: RunTrace | None = None,
    ) -> None:
        self.run: str = admitted["run"]
        self.epoch: int = admitted["epoch"]
        self.attempt: int = admitted["attempt"]
        self.session: str | None = admitted.get("session")
        self.cancelled = False
        self.usage: Counter[str] = Counter()
        self.trace = trace
        self._client = client
        self._on_fenced = on_fenced
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._queue: list[_Entry] = []
        self._writer: asyncio.Task[None] | None = None
        self._batch = 0
        self._broken: Problem | None = None
        self._recorded: dict[tuple[str, str, int], bytes] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    async def fetch_recorded(self) -> None:
        """Get what earlier attempts recorded; before the agent starts."""
        reply = await self._client.call("recorded", {"run": self.run})
        blobs = reply.parts()
        for call in reply.fields["calls"]:
            self._recorded[call["name"], call["digest"], call["n"]] = blobs[call["part"]]

    # RunContext

    def start_step(
        self,
        name: str,
        kind: StepKind,
        *,
        input: Any = None,  # noqa: A002 - the journal's word
        parent: str | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> RunStep:
        step = RunStep(self, kind, call)
        if self.trace is not None:
            self.trace.begin_step(step.id, name, kind, parent=parent)
        event = {"kind": "step.started", "step": step.id, "name": writable(name), "step_kind": str(kind)}
        if parent is not None:
            event["parent"] = parent
        self.record(event, None if input is None else encode(input))
        return step

    def recorded(self, name: str, arguments: bytes) -> tuple[Mapping[str, Any], bytes | None]:
        digest = hashlib.sha256(arguments).hexdigest()
        with self._lock:
            self._counts[name, digest] += 1
            n = self._counts[name, digest]
        return {"name": name, "digest": digest, "n": n}, self._recorded.get((name, digest, n))

    def unasked(self) -> list[dict[str, Any]]:
        """`name` and `n` of calls that earlier attempts recorded and nobody has asked for in this one."""
        with self._lock:
            return [{"name": name, "n": n} for name, digest, n in self._recorded if n > self._counts[name, digest]]

    async def journal(self, operation: str, fields: dict[str, Any], body: bytes = b"") -> Message:
        whole = {**fields, "run": self.run, "epoch": self.epoch}
        work = self._fenced_call(operation, whole, body)
        if self.in_own_thread:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # events

    def record(self, event: dict[str, Any], content: bytes | None = None) -> None:
        """Write an event, soon. May be called from any thread; never blocks."""
        self._add(_Entry({**event, "at": time.time()}, content))

    def commit(self, event: dict[str, Any], content: bytes | None = None) -> Future[None]:
        """`record`, and know when it is committed; it raises what the journal has against it."""
        committed: Future[None] = Future()
        self._add(_Entry({**event, "at": time.time()}, content, committed))
        return committed

    @property
    def in_own_thread(self) -> bool:
        """Whether this is the thread of the run's event loop, where nothing may block."""
        return threading.get_ident() == self._thread

    async def end(self, ending: Ending, body: bytes) -> str:
        """End the attempt, after all its events. Returns the run's state: `waiting` if it will be attempted again."""
        await self._drain()
        fields: dict[str, Any] = {**ending, "run": self.run, "epoch": self.epoch}
        if self.usage:
            fields["usage"] = dict(self.usage)
        return str((await self._fenced_call("end", fields, body)).fields["state"])

    async def flush(self) -> None:
        """Wait until all that was recorded is committed. Raises the problem that the journal had with any of it."""
        await self._drain()
        if self._broken is not None:
            raise self._broken

    async def _drain(self) -> None:
        while self._queue or self._writer is not None:
            self._begin()
            assert self._writer is not None
            await asyncio.wait([self._writer])

    def _add(self, entry: _Entry) -> None:
        with self._lock:
            self._queue.append(entry)
        if self.in_own_thread:
            self._begin()
        else:
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        """Send batches until nothing is left; ends by itself."""
        try:
            while True:
                entries = self._take()
                if not entries:
                    return
                await self._append(entries)
        finally:
            self._writer = None

    def _take(self) -> list[_Entry]:
        """The next batch."""
        with self._lock:
            count = size = 0
            for entry in self._queue[:AT_ONCE]:
                size += len(entry.content or b"")
                if count and size > BYTES_AT_ONCE:
                    break
                count += 1
            entries, self._queue = self._queue[:count], self._queue[count:]
        return entries

    async def _append(self, entries: list[_Entry]) -> None:
        if self._broken is None:
            self._batch += 1
            blobs = [entry.content for entry in entries if entry.content is not None]
            part = 0
            for entry in entries:
                if entry.content is not None:
                    entry.event["part"] = part
                    part += 1
            events = [entry.event for entry in entries]
            message = wire.with_parts(
                {"run": self.run, "epoch": self.epoch, "batch": self._batch, "events": events}, blobs
            )
            try:
                await self._fenced_call("append", message.fields, message.body)
            except Problem as problem:  # a hole in the record: nothing after it may be written
                self._broken = problem
            except (TypeError, ValueError) as error:  # an adapter's `data` that is no JSON, or no text
                self._broken = BadInput(f"An event cannot be written: {error}", code="event_invalid")
        for entry in entries:
            if entry.committed is not None and entry.committed.set_running_or_notify_cancel():
                if self._broken is None:
                    entry.committed.set_result(None)
                else:
                    entry.committed.set_exception(self._broken)

    async def _fenced_call(self, operation: str, fields: dict[str, Any], body: bytes) -> Message:
        try:
            return await self._client.call(operation, fields, body)
        except Problem as problem:
            if problem.code == FENCED and self._broken is None:
                self._broken = problem
                self._on_fenced()
            raise


@dataclass(slots=True)
class RunStep:
    """A step that has started: see `adapter.Step`."""

    _journal: RunJournal
    _kind: StepKind
    _call: Mapping[str, Any] | None
    id: str = field(default_factory=uuid7)
    _started: float = field(default_factory=time.perf_counter)

    def succeed(self, result: Any = None, **data: Any) -> Coroutine[Any, Any, None]:
        """Recorded at the call, in order; the coroutine waits for the commit, in whichever event loop."""
        return _wait_for(self._journal.commit(*self._succeeded(result, data)))

    def fail(self, error: BaseException, **data: Any) -> Coroutine[Any, Any, None]:
        return _wait_for(self._journal.commit(self._failed(error, data)))

    def succeed_blocking(self, result: Any = None, **data: Any) -> None:
        self._may_block()
        self._journal.commit(*self._succeeded(result, data)).result()

    def fail_blocking(self, error: BaseException, **data: Any) -> None:
        self._may_block()
        self._journal.commit(self._failed(error, data)).result()

    def _may_block(self) -> None:
        if self._journal.in_own_thread:
            raise RuntimeError("blocking here would stop the event loop: use the asynchronous twin of this call")

    def _succeeded(self, result: Any, data: dict[str, Any]) -> tuple[dict[str, Any], bytes | None]:
        if self._kind is StepKind.MODEL:
            tokens = ("input_tokens", "output_tokens")
            self._journal.usage.update({name: data[name] for name in tokens if isinstance(data.get(name), int)})
        if self._journal.trace is not None:
            self._journal.trace.end_step(self.id, data)
        event = {**self._ended("step.succeeded"), **({"data": data} if data else {})}
        if self._call is None:
            return event, None if result is None else encode(result)
        return {**event, "call": dict(self._call)}, encode(result)

    def _failed(self, error: BaseException, data: dict[str, Any]) -> dict[str, Any]:
        if self._journal.trace is not None:
            self._journal.trace.end_step(self.id, data, error=type(error).__name__)
        described = {"type": type(error).__name__, "message": writable(str(error)[:ERROR_TEXT])}
        return {**self._ended("step.failed"), "data": {**data, "error": described}}

    def _ended(self, kind: str) -> dict[str, Any]:
        seconds = round(time.perf_counter() - self._started, 6)
        return {"kind": kind, "step": self.id, "step_kind": self._kind, "seconds": seconds}


async def _wait_for(committed: Future[None]) -> None:
    await asyncio.wrap_future(committed)


def writable(text: str) -> str:
    """A text without what no database takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode(errors="replace").decode()


def encode(value: Any) -> bytes:
    """What a step's input or result is kept as: bytes as they are, all else JSON, if need be by `str`."""
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()
