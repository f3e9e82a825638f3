"""What a run's events tell: its attempts and its steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from control_api.runs.schemas import AttemptView, EventView, StepView
from orchestrator_runtime.contract.states import AttemptState, StepState

ENDS = {"run.succeeded": "succeeded", "run.failed": "failed", "run.cancelled": "cancelled"}


def attempts(events: Iterable[EventView]) -> list[AttemptView]:
    """The attempts, the first one first, from a run's events of the kinds `run.*`."""
    found: list[dict[str, Any]] = []
    for event in events:
        data = event.data or {}
        if event.event == "run.started":
            members = {name: data[name] for name in ("attempt", "epoch", "instance", "revision")}
            found.append({**members, "state": AttemptState.RUNNING, "started_at": event.at})
            continue
        state = data.get("attempt_state") or ENDS.get(event.event)
        if event.event == "run.waiting" and data.get("attempt") is not None:
            state = state or AttemptState.SUCCEEDED  # it left its instance by itself
        if state and found and found[-1]["state"] == AttemptState.RUNNING:
            ended = {"state": state, "ended_at": event.at, "problem": data.get("problem"), "reason": data.get("why")}
            found[-1].update(ended, unasked=data.get("unasked", []))
    unknown: dict[str, Any] = {"ended_at": None, "problem": None, "reason": None, "unasked": []}
    return [AttemptView(**{**unknown, **members}) for members in found]


def steps(events: Iterable[EventView]) -> list[StepView]:
    """The steps in the order in which they began, from a run's events of the kinds `run.*` and `step.*`."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    attempt = 0
    for event in events:
        if event.event == "run.started":
            attempt = int((event.data or {})["attempt"])
        elif event.event in ENDS or event.event == "run.waiting":
            _leave_unfinished(found.values(), event)
        elif event.step is not None:
            begun = {"id": event.step, "attempt": attempt, "state": StepState.RUNNING, "data": {}, "started_at": None}
            _tell(found.setdefault((attempt, event.step), begun), event)
    unknown = dict.fromkeys(("parent", "name", "kind", "ended_at", "input_event", "output_event"))
    return [StepView(**{**unknown, **members}) for members in found.values()]


def _tell(step: dict[str, Any], event: EventView) -> None:
    """Take one event of a step into it."""
    said = {"parent": event.parent, "name": event.name, "kind": event.kind}
    step.update({name: value for name, value in said.items() if value is not None})
    step["data"] = {**step["data"], **(event.data or {})}
    content = event.seq if event.has_content else None
    if event.event == "step.started":
        step.update(started_at=event.at, input_event=content)
    elif event.event in ("step.succeeded", "step.failed"):
        step.update(state=StepState(event.event.removeprefix("step.")), ended_at=event.at, output_event=content)


def _leave_unfinished(steps: Iterable[dict[str, Any]], event: EventView) -> None:
    for step in steps:
        if step["state"] == StepState.RUNNING:
            step.update(state=StepState.FAILED, ended_at=event.at)
