"""Attempts and steps as a run's events tell them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

from control_api.runs.schemas import EventView
from control_api.runs.story import attempts, steps
from orchestrator_runtime.contract.states import AttemptState, StepState

START = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """Events, numbered as they are told."""

    def __init__(self) -> None:
        self.events: list[EventView] = []
        self._numbers = count(1)

    def tell(self, event: str, step: str | None = None, *, content: bool = False, **data: Any) -> None:
        number = next(self._numbers)
        named = {"parent": None, "name": step, "kind": None}
        self.events.append(
            EventView(seq=number, event=event, at=START, step=step, data=data or None, has_content=content, **named)
        )

    def start(self, attempt: int) -> None:
        self.tell("run.started", attempt=attempt, epoch=attempt, instance=f"i-{attempt}", revision="echo-00001")


def test_an_attempt_runs_until_an_event_ends_it() -> None:
    story = Story()
    story.tell("run.accepted", reason="dispatch")
    story.start(1)
    assert [one.state for one in attempts(story.events)] == [AttemptState.RUNNING]
    story.tell("run.waiting", reason="dispatch", attempt=1, attempt_state="lost", why="killed")
    story.tell("run.waiting", reason="dispatch", problem={"code": "gateway_unavailable"})
    story.start(2)
    story.tell("run.succeeded", status=200, attempt=2, unasked=[{"name": "pay", "n": 1}])
    first, second = attempts(story.events)
    assert ([call.name for call in first.unasked], [call.name for call in second.unasked]) == ([], ["pay"])
    assert (first.state, first.reason, first.problem) == (AttemptState.LOST, "killed", None)
    assert (second.state, second.reason) == (AttemptState.SUCCEEDED, None)


def test_an_attempt_that_left_its_instance_by_itself_has_succeeded() -> None:
    story = Story()
    story.start(1)
    story.tell("run.waiting", reason="retry", attempt=1)
    assert [one.state for one in attempts(story.events)] == [AttemptState.SUCCEEDED]


def test_a_run_that_was_never_begun_has_no_attempts() -> None:
    story = Story()
    story.tell("run.accepted", reason="dispatch")
    story.tell("run.cancelled", status=499, attempt=0)
    assert attempts(story.events) == []


def test_a_step_has_the_numbers_of_the_events_that_hold_its_input_and_result() -> None:
    story = Story()
    story.start(1)
    story.tell("step.started", "1", content=True, model="small")
    story.tell("step.succeeded", "1", content=True, tokens=7)
    [step] = steps(story.events)
    assert (step.input_event, step.output_event) == (2, 3)
    assert step.data == {"model": "small", "tokens": 7}


def test_steps_of_the_same_name_belong_to_their_attempts() -> None:
    story = Story()
    story.start(1)
    story.tell("step.started", "1")
    story.tell("run.waiting", reason="dispatch", attempt=1, attempt_state="lost", why="killed")
    story.start(2)
    story.tell("step.started", "1")
    assert [(one.attempt, one.state) for one in steps(story.events)] == [
        (1, StepState.FAILED),
        (2, StepState.RUNNING),
    ]


def test_a_result_without_a_start_is_a_step_all_the_same() -> None:
    story = Story()
    story.start(1)
    story.tell("step.succeeded", "1")
    [step] = steps(story.events)
    assert (step.state, step.started_at) == (StepState.SUCCEEDED, None)
