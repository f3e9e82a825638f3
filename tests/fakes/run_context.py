"""A run and its journal in memory, or in a file that outlives a killed process: what an adapter needs, and no server.

Runs in the frameworks' own environments, so it needs the runtime's contract and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.ids import uuid7
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.contract.wire import Message
from orchestrator_runtime.frameworks.adapter import Call, Input
from tests.fakes.checkpoints import Checkpoints


@dataclass
class Journal:
    """What is durable: events of all runs, recorded calls, checkpoints, sessions."""

    path: Path | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: dict[tuple[str, str, str, int], bytes] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    sessions: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """The journal in this file; a new one if there is none."""
        if path.exists():
            stored: Journal = pickle.loads(path.read_bytes())
            return stored
        return cls(path)

    def commit(self) -> None:
        if self.path is not None:
            new = self.path.with_suffix(".new")
            new.write_bytes(pickle.dumps(self))
            new.replace(self.path)

    def steps(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Steps in the order of their start: {name, kind, state, parent, input, result, data}."""
        steps: dict[str, dict[str, Any]] = {}
        for event in self.events:
            if event["kind"] == "step.started":
                steps[event["step"]] = {**event, "state": "running", "kind": event["step_kind"]}
            else:
                steps[event["step"]] |= {**event, "state": event["kind"].removeprefix("step.")} | {
                    "kind": steps[event["step"]]["kind"]
                }
        return [step for step in steps.values() if kind is None or step["kind"] == kind]


class FakeStep:
    def __init__(self, context: FakeRunContext, call: Mapping[str, Any] | None) -> None:
        self.id = uuid7()
        self._context, self._call = context, call

    async def succeed(self, result: Any = None, **data: Any) -> None:
        await asyncio.sleep(0)
        self.succeed_blocking(result, **data)

    async def fail(self, error: BaseException, **data: Any) -> None:
        await asyncio.sleep(0)
        self.fail_blocking(error, **data)

    def succeed_blocking(self, result: Any = None, **data: Any) -> None:
        journal, body = self._context.journal_, _encode(result)
        if self._call is not None:
            key = (self._context.run, self._call["name"], self._call["digest"], self._call["n"])
            assert key not in journal.calls, f"recorded twice: {key}"
            journal.calls[key] = body
        self._context.write({"kind": "step.succeeded", "step": self.id, "result": body, "data": data})

    def fail_blocking(self, error: BaseException, **data: Any) -> None:
        self._context.write({"kind": "step.failed", "step": self.id, "error": str(error), "data": data})


class FakeRunContext:
    """A `RunContext` over a `Journal`."""

    def __init__(
        self, journal: Journal | None = None, *, run: str = "", attempt: int = 1, session: str | None = None
    ) -> None:
        self.journal_ = journal or Journal()
        self.run = run or uuid7()
        self.epoch = self.attempt = attempt
        self.session = session
        self.cancelled = False
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def start_step(
        self,
        name: str,
        kind: StepKind,
        *,
        input: Any = None,  # noqa: A002
        parent: str | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> FakeStep:
        step = FakeStep(self, call)
        started = {"name": name, "step_kind": str(kind), "parent": parent, "input": _encode(input)}
        self.write({"kind": "step.started", "step": step.id, **started})
        return step

    def recorded(self, name: str, arguments: bytes) -> tuple[Mapping[str, Any], bytes | None]:
        digest = hashlib.sha256(arguments).hexdigest()
        with self._lock:
            self._counts[name, digest] += 1
            n = self._counts[name, digest]
        identity = {"name": name, "digest": digest, "n": n}
        return identity, self.journal_.calls.get((self.run, name, digest, n)) if self.attempt > 1 else None

    async def journal(self, operation: str, fields: dict[str, Any], body: bytes = b"") -> Message:
        await asyncio.sleep(0)
        message = Message(json.loads(json.dumps(fields)), body)
        if operation == "session.get":
            state = self.journal_.sessions.get(fields["session"])
            return Message({"found": state is not None}, state or b"")
        if operation == "session.put":
            self.journal_.sessions[fields["session"]] = body
            reply = Message()
        else:
            reply = self.journal_.checkpoints.handle(operation, self.run, message)
        self.journal_.commit()
        return reply

    def write(self, event: dict[str, Any]) -> None:
        with self._lock:
            self.journal_.events.append({"run": self.run, "attempt": self.attempt, **event})
            self.journal_.commit()


def create_call(
    value: Any = None, *, run: FakeRunContext | None = None, stream: bool = False, given: Input | None = None
) -> tuple[Call, list[tuple[str, Any]]]:
    """A call with JSON input, and the list into which what it emits goes."""
    emitted: list[tuple[str, Any]] = []

    async def emit(event: str, data: Any) -> None:
        if stream:
            emitted.append((event, json.loads(json.dumps(data))))

    body = given or Input(body=json.dumps(value).encode())
    return Call(input=body, run=run or FakeRunContext(), stream=stream, emit=emit), emitted


def _encode(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, default=str).encode()
