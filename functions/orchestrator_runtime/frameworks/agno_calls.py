"""Hooks into Agno: its tool calls are recorded, and model calls know which agent run they belong to.

`install` wraps `FunctionCall` and `Model` themselves, so that it holds for all agents, members of teams and steps of
workflows, whoever made them. A tool that is a generator (among them those with which a team delegates) is not
recorded: what it does inside is.
"""

from __future__ import annotations

import copy
import inspect
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from agno.models.base import Model
from agno.tools.function import FunctionCall, FunctionExecutionResult

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.adapter import Step
from orchestrator_runtime.frameworks.calls import MISSING, RecordedCall, pack, unpack
from orchestrator_runtime.frameworks.current import Active, current

_run: ContextVar[str | None] = ContextVar("orchestrator_agno_run", default=None)
_steps: ContextVar[Steps | None] = ContextVar("orchestrator_agno_steps", default=None)


class AgnoFailedError(Exception):
    """A tool or an agent raised; Agno keeps only its words."""


class Steps:
    """The open steps of an attempt by Agno's identities of agent runs and of steps of workflows."""

    def __init__(self, active: Active) -> None:
        self._active = active
        self._open: dict[str, tuple[Step, StepKind]] = {}
        self._lock = threading.Lock()

    def place(self) -> tuple[str, str | None]:
        """See `current.Place`: calls are counted within the whole run; the parent is the agent run that makes them."""
        return "", self._id(_run.get())

    def begin(
        self, key: str, name: str, kind: StepKind, *, parents: tuple[str | None, ...] = (), shown: Any = None
    ) -> None:
        """Begin a step unless it has begun. `parents`: the first of them that is open is the parent."""
        with self._lock:
            if key not in self._open:
                parent = next((self._open[one][0].id for one in parents if one in self._open), None)
                self._open[key] = self._active.run.start_step(name, kind, input=shown, parent=parent), kind

    def take(self, key: str) -> Step | None:
        """The step, which is no longer open then."""
        with self._lock:
            return self._open.pop(key, (None, None))[0]

    async def end_open(self, error: BaseException | None = None) -> None:
        """End those of whose end no event told: a team may keep its members' to itself, a workflow skips steps."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for step, kind in reversed(left):
            if error is not None or kind is StepKind.NODE:
                await step.fail(error or AgnoFailedError("It did not complete, and the workflow went on"))
            else:
                await step.succeed()

    def _id(self, key: str | None) -> str | None:
        with self._lock:
            return self._open[key][0].id if key in self._open else None


@contextmanager
def keeping(steps: Steps) -> Iterator[None]:
    """Within, what Agno does becomes part of these steps."""
    token = _steps.set(steps)
    try:
        yield
    finally:
        _steps.reset(token)


def install() -> None:
    """Wrap Agno's classes. A second call does nothing."""
    if not hasattr(FunctionCall.execute, "wrapped_by_orchestrator"):
        _wrap_tools()
        _wrap_models()


def _wrap_tools() -> None:
    execute, execute_async = FunctionCall.execute, FunctionCall.aexecute

    def recorded_execute(self: Any) -> Any:
        call = _ToolCall.of(self)
        if call is None:
            return execute(self)
        if call.outcome is not None:
            return call.outcome
        try:
            outcome = execute(self)
        except BaseException as error:
            call.recorded.fail_blocking(error)
            raise
        if outcome.status == "success":
            call.recorded.succeed_blocking(call.packed(outcome))
        else:
            call.recorded.fail_blocking(AgnoFailedError(outcome.error))
        return outcome

    async def recorded_execute_async(self: Any) -> Any:
        call = _ToolCall.of(self)
        if call is None:
            return await execute_async(self)
        if call.outcome is not None:
            return call.outcome
        try:
            outcome = await execute_async(self)
        except BaseException as error:
            call.recorded.abandon(error)  # it may be a cancellation, in which nothing can be awaited
            raise
        if outcome.status == "success":
            await call.recorded.succeed(call.packed(outcome))
        else:
            await call.recorded.fail(AgnoFailedError(outcome.error))
        return outcome

    recorded_execute.wrapped_by_orchestrator = True  # type: ignore[attr-defined]
    FunctionCall.execute = recorded_execute
    FunctionCall.aexecute = recorded_execute_async


class _ToolCall:
    """A call of a tool: its record, its answer if an earlier attempt gave one, and the session's state around it."""

    def __init__(self, call: Any, recorded: RecordedCall) -> None:
        self.recorded = recorded
        self.outcome: Any = None
        self._state = _session_state(call)
        if recorded.answer is None:
            self._before = copy.deepcopy(self._state)
            return
        kept = json.loads(recorded.answer)
        call.result = unpack(json.dumps(kept).encode())
        if self._state is not None and "state" in kept:
            state = unpack(json.dumps(kept["state"]).encode())
            self._state.clear()
            self._state.update(state)
        self.outcome = FunctionExecutionResult(status="success", result=call.result, updated_session_state=self._state)

    @classmethod
    def of(cls, call: Any) -> _ToolCall | None:
        """None if it cannot be recorded, or was recorded without what it returned, so that it is made again."""
        active, function = current(), call.function
        entrypoint = function.entrypoint
        if active is None or inspect.isgeneratorfunction(entrypoint) or inspect.isasyncgenfunction(entrypoint):
            return None
        arguments = call.arguments or {}
        encoded = json.dumps(arguments, sort_keys=True, default=str).encode()
        recorded = RecordedCall(active, function.name, StepKind.TOOL, encoded, shown=arguments)
        if recorded.answer is not None and unpack(recorded.answer) is MISSING:
            return None
        return cls(call, recorded)

    def packed(self, outcome: Any) -> dict[str, Any]:
        """What the tool returned, and the state that it left behind if it changed it."""
        packed = pack(outcome.result)
        changed = self._state is not None and self._state != self._before
        return {**packed, "state": pack(self._state)} if changed else packed


def _session_state(call: Any) -> dict[str, Any] | None:
    state = getattr(call.function._run_context, "session_state", None)  # noqa: SLF001 - where Agno's own hooks find it
    return state if isinstance(state, dict) else None


def _wrap_models() -> None:
    """Say which agent run is asking while a model works, and while the tools run that it calls."""
    response, response_async = Model.response, Model.aresponse
    stream, stream_async = Model.response_stream, Model.aresponse_stream

    def placed_response(self: Any, *arguments: Any, **named: Any) -> Any:
        with _within(named):
            return response(self, *arguments, **named)

    async def placed_response_async(self: Any, *arguments: Any, **named: Any) -> Any:
        with _within(named):
            return await response_async(self, *arguments, **named)

    def placed_stream(self: Any, *arguments: Any, **named: Any) -> Iterator[Any]:
        pieces = stream(self, *arguments, **named)
        while True:
            with _within(named):  # only while it works: between its pieces, the context is the consumer's
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
            yield piece

    async def placed_stream_async(self: Any, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        pieces = stream_async(self, *arguments, **named)
        while True:
            with _within(named):
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
            yield piece

    Model.response, Model.aresponse = placed_response, placed_response_async
    Model.response_stream, Model.aresponse_stream = placed_stream, placed_stream_async


@contextmanager
def _within(named: dict[str, Any]) -> Iterator[None]:
    output, steps = named.get("run_response"), _steps.get()
    if output is None or steps is None:
        yield
        return
    # The event that says so may still be on its way, as those of a team's members are.
    begin_run(steps, output)
    token = _run.set(output.run_id)
    try:
        yield
    finally:
        _run.reset(token)


def begin_run(steps: Steps, about: Any, *, shown: Any = None) -> None:
    """Begin the step of an agent's, team's or workflow's run; `about` is one of Agno's events or outputs of it."""
    names = ("agent_name", "team_name", "workflow_name", "agent_id", "team_id", "workflow_id")
    name = next((str(getattr(about, one)) for one in names if getattr(about, one, None)), "agent")
    said = tuple(getattr(about, one, None) for one in ("parent_run_id", "step_id", "workflow_run_id"))
    parents = (*said, _run.get())  # within a run whose tool delegates, that one
    steps.begin(about.run_id, name, StepKind.AGENT, parents=parents, shown=shown)
