"""The border between the server and a framework: what an adapter gets, and what it gives back.

An adapter is a module of this package with one function, `load(target, start) -> Agent`: it takes the object that the
entrypoint names and raises `Problem` (`entrypoint_wrong_framework`) if the framework cannot run it. An adapter turns
what its framework does into steps and hands every piece of a stream to `Call.emit`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.contract.states import StepKind


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    body: bytes
    content_type: str = "text/plain"
    filename: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """What came in. `parts` is filled for multipart bodies, `attributes` for CloudEvents (their context attributes)."""

    body: bytes
    content_type: str = "application/json"
    parts: tuple[Part, ...] = ()
    attributes: Mapping[str, Any] | None = None
    method: str = "POST"
    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def value(self) -> Any:
        """The body as a Python value: JSON decoded, text as str, anything else as bytes; None if there is none.

        A form, also a multipart one, is a dict: a file in it a `Part`, a field that comes more than once a list.
        Raises `BadInput` (`not_json`) for a JSON content type whose body is not JSON.
        """
        from orchestrator_runtime.frameworks.values import decode  # the two modules describe each other's values

        return decode(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out when the run ends."""

    body: bytes = b""
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, *, status: int = 200) -> Answer:
        return cls(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), status=status)


class Step(Protocol):
    """A step that has started. Exactly one of the two methods is called, once; both return after the commit.

    `blocking` twins exist because frameworks call their hooks in their own threads.
    """

    id: str

    async def succeed(self, result: Any = None, **data: Any) -> None:
        """`data`: small JSON members such as model, input_tokens, output_tokens."""
        ...

    async def fail(self, error: BaseException, **data: Any) -> None: ...

    def succeed_blocking(self, result: Any = None, **data: Any) -> None: ...

    def fail_blocking(self, error: BaseException, **data: Any) -> None: ...


class RunContext(Protocol):
    """The run that a call belongs to, and its journal."""

    run: str
    epoch: int
    attempt: int
    session: str | None

    def start_step(
        self,
        name: str,
        kind: StepKind,
        *,
        input: Any = None,  # noqa: A002 - the journal's word
        parent: str | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> Step:
        """Begin a step. `call` ({name, digest, n}) marks one whose result answers the same call after a crash.

        May be called from any thread; never blocks.
        """
        ...

    def recorded(self, name: str, arguments: bytes) -> tuple[Mapping[str, Any], bytes | None]:
        """The identity of this call (for `start_step`) and its result if an earlier attempt recorded one.

        Matched by name, argument digest and n-th equal call. May be called from any thread; never blocks: what
        earlier attempts recorded came with the admission.
        """
        ...

    async def journal(self, operation: str, fields: dict[str, Any], body: bytes = b"") -> Any:
        """Any other operation of the journal protocol, with run and epoch added; returns a `wire.Message`."""
        ...

    @property
    def cancelled(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation. `stream` says whether the caller takes server-sent events; `emit` drops them if not."""

    input: Input
    run: RunContext
    stream: bool
    emit: Callable[[str, Any], Awaitable[None]]
    """Send one server-sent event: its name and a JSON value."""


class Agent(Protocol):
    """A loaded agent. `resumes`: a new attempt goes on from a checkpoint, past calls that it does not make again."""

    resumes: bool

    async def run(self, call: Call) -> Answer:
        """Do the work of one attempt. Raises `Problem`, or whatever the agent's code raises."""
        ...


Load = Callable[[object, InstanceStart], Agent]
