"""Hooks into CrewAI: its tools are recorded, and its events become steps and pieces of the stream.

Tools are wrapped where CrewAI calls them, for all crews alike. Events come through a sink of the run's own context,
in the thread that emits them, so that they arrive in order; the handlers of the event bus run in a pool.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from crewai.events.event_context import get_current_parent_id
from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool

from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.adapter import Step
from orchestrator_runtime.frameworks.calls import MISSING, RecordedCall, pack, unpack
from orchestrator_runtime.frameworks.current import Active, current
from orchestrator_runtime.frameworks.excerpt import excerpt

STEPS: dict[str, tuple[StepKind, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "flow_started": (StepKind.NODE, lambda event: event.flow_name, lambda event: event.inputs),
    "method_execution_started": (StepKind.NODE, lambda event: event.method_name, lambda event: event.params),
    "crew_kickoff_started": (StepKind.NODE, lambda event: event.crew_name, lambda event: event.inputs),
    "task_started": (StepKind.NODE, lambda event: _task_name(event.task), lambda event: event.context),
    "agent_execution_started": (StepKind.AGENT, lambda event: event.agent.role, lambda event: event.task_prompt),
    "lite_agent_execution_started": (
        StepKind.AGENT,
        lambda event: event.agent_info.get("role"),
        lambda event: event.messages,
    ),
}
"""What an event begins: its kind, and what tells its name and its input."""

FAILED = ("_failed", "_error")
STOPS = ("task_started", "llm_call_started", "tool_usage_started", "method_execution_started")
"""Before these a run that is cancelled stops, in whichever of the framework's threads it is."""

STREAMED = (str, int, float, bool, dict, list)
NOT_STREAMED = ("messages", "callbacks", "available_functions", "tools", "state", "fingerprint_metadata")


class Stopped(BaseException):
    """The run is over. No `Exception`: a crew that goes on after any error must not go on after this one."""


class CrewFailedError(Exception):
    """Something in a crew failed; its event keeps only the words."""


class Events:
    """The events of an attempt. Its methods are called in any of the framework's threads."""

    def __init__(self, active: Active) -> None:
        self._active = active
        self._open: dict[str, Step] = {}
        self._parents: dict[str, str | None] = {}  # event that opened a scope -> step that whatever is in it belongs to
        self._lock = threading.Lock()

    def place(self) -> tuple[str, str | None]:
        """See `current.Place`: calls are counted within the whole run; the parent is the innermost step around it."""
        return "", self._parents.get(get_current_parent_id() or "")

    def sink(self, source: Any, event: Any) -> None:
        """Take an event. Raises `Stopped` where the run can stop."""
        if event.type in STOPS and self._active.run.cancelled:
            raise Stopped
        with self._lock:
            self._note(event, is_own=type(source).__module__.startswith("crewai."))
        self._active.tell(event.type, _shown(event))

    def fail_open(self, error: BaseException) -> None:
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for step in reversed(left):
            self._active.later(step.fail(error))

    def _note(self, event: Any, *, is_own: bool) -> None:
        """`is_own`: it comes from CrewAI's own code; inside, an agent is a flow too, which is nobody's step."""
        parent = self._parents.get(event.parent_event_id or "")
        if event.type in STEPS and not (is_own and event.type.startswith(("flow_", "method_"))):
            kind, name, given = STEPS[event.type]
            step = self._active.run.start_step(
                str(name(event) or kind)[:200], kind, input=excerpt(given(event)), parent=parent
            )
            self._open[event.event_id] = step
            self._parents[event.event_id] = step.id
        elif event.type.endswith("_started"):
            self._parents[event.event_id] = parent
        elif ended := self._open.pop(event.started_event_id or "", None):
            if event.type.endswith(FAILED):
                self._active.later(ended.fail(CrewFailedError(str(event.error))))
            else:
                result = getattr(event, "output", None) or getattr(event, "result", None)
                self._active.later(ended.succeed(excerpt(getattr(result, "raw", result))))


def install() -> None:
    """Wrap the tools' methods. A second call does nothing."""
    if hasattr(BaseTool.run, "wrapped_by_orchestrator"):
        return
    for kind in (BaseTool, Tool):
        kind.run = _recorded(kind.run)
        kind.arun = _recorded_async(kind.arun)
    CrewStructuredTool.invoke = _recorded(CrewStructuredTool.invoke)
    CrewStructuredTool.ainvoke = _recorded_async(CrewStructuredTool.ainvoke)


def _recorded(method: Any) -> Any:
    def run(self: Any, *arguments: Any, **named: Any) -> Any:
        call = _begin(self, arguments, named)
        if call is None:
            return method(self, *arguments, **named)
        if call.answer is not None:
            return unpack(call.answer)
        try:
            result = method(self, *arguments, **named)
        except BaseException as error:
            call.fail_blocking(error)
            raise
        call.succeed_blocking(pack(result))
        return result

    run.wrapped_by_orchestrator = True  # type: ignore[attr-defined]
    return run


def _recorded_async(method: Any) -> Any:
    async def run(self: Any, *arguments: Any, **named: Any) -> Any:
        call = _begin(self, arguments, named)
        if call is None:
            return await method(self, *arguments, **named)
        if call.answer is not None:
            return unpack(call.answer)
        try:
            result = await method(self, *arguments, **named)
        except BaseException as error:
            call.abandon(error)  # it may be a cancellation, in which nothing can be awaited
            raise
        await call.succeed(pack(result))
        return result

    return run


def _begin(tool: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> RecordedCall | None:
    """None outside of a run, or if it was recorded without what it returned, so that it is made again."""
    active = current()
    if active is None:
        return None
    given = {name: value for name, value in named.items() if name not in ("config", "input")}
    direct = named["input"] if "input" in named else arguments[0] if len(arguments) == 1 else list(arguments)
    shown = {**direct, **given} if isinstance(direct, dict) else {"arguments": direct, **given} if direct else given
    encoded = json.dumps(shown, sort_keys=True, default=str).encode()
    call = RecordedCall(active, tool.name, StepKind.TOOL, encoded, shown=excerpt(shown))
    if call.answer is not None and unpack(call.answer) is MISSING:
        return None
    if call.answer is not None:
        _count_use(tool)
    return call


def _count_use(tool: Any) -> None:
    """An answered call counts towards the tool's limit, as it did when it was made."""
    if isinstance(tool, CrewStructuredTool):
        tool._increment_usage_count()  # noqa: SLF001 - the tool's own count
    elif tool.max_usage_count is None or tool.current_usage_count < tool.max_usage_count:
        tool.current_usage_count += 1


def _task_name(task: Any) -> str:
    return str(task.name or task.description).strip() if task is not None else "task"


def _shown(event: Any) -> dict[str, Any]:
    """What a stream says of an event: its plain members, and the output as text."""
    members = {
        name: value
        for name, value in vars(event).items()
        if isinstance(value, STREAMED) and value != {} and name not in NOT_STREAMED
    }
    output = getattr(event, "output", None)
    if output is not None and not isinstance(output, STREAMED):
        members["output"] = str(output)
    encoded: dict[str, Any] = json.loads(json.dumps(members, default=str))
    return encoded
