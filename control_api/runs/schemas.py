"""Bodies of the runs API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from control_api.schemas import Moment, ProblemDocument, View, example
from orchestrator_runtime.contract.states import AttemptState, RunState, StepState, WaitReason

RUN = {
    "id": "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b",
    "agent": "triage",
    "revision": "triage-00003",
    "state": "succeeded",
    "wait_reason": None,
    "wait_until": None,
    "attempt": 1,
    "session": "customer-42",
    "trigger": "http",
    "key": "9d6c1f",
    "caller": "owner",
    "correlation_id": "0193a5b0-7c3d-7000-8000-00000000000a",
    "status": 200,
    "problem": None,
    "usage": {"input_tokens": 812, "output_tokens": 96},
    "created_at": "2026-11-24T14:00:00.000Z",
    "started_at": "2026-11-24T14:00:00.000Z",
    "ended_at": "2026-11-24T14:00:01.500Z",
    "cancel_requested_at": None,
}
ATTEMPT = {
    "attempt": 1,
    "epoch": 1,
    "state": "succeeded",
    "instance": "triage-00003-1a2b",
    "revision": "triage-00003",
    "started_at": "2026-11-24T14:00:00.000Z",
    "ended_at": "2026-11-24T14:00:01.500Z",
    "problem": None,
    "reason": None,
    "unasked": [],
}
STEP = {
    "id": "3",
    "parent": "2",
    "name": "classify",
    "kind": "model",
    "state": "succeeded",
    "attempt": 1,
    "started_at": "2026-11-24T14:00:00.100Z",
    "ended_at": "2026-11-24T14:00:01.400Z",
    "data": {"model": "small", "input_tokens": 812, "output_tokens": 96},
    "input_event": 4,
    "output_event": 5,
}
EVENT = {
    "seq": 5,
    "event": "step.succeeded",
    "at": "2026-11-24T14:00:01.400Z",
    "step": "3",
    "parent": "2",
    "name": "classify",
    "kind": "model",
    "data": {"model": "small", "input_tokens": 812, "output_tokens": 96},
    "has_content": True,
}


class RunView(View):
    model_config = example(**RUN)

    id: str
    agent: str
    revision: str = Field(description="A run stays on the revision it began with.")
    state: RunState
    wait_reason: WaitReason | None = Field(description="Why nobody works on it, while it is pending or waiting.")
    wait_until: Moment | None = Field(description="When it goes on, if that is a matter of time.")
    attempt: int = Field(description="How many attempts there were.")
    session: str | None
    trigger: Literal["http", "event"]
    key: str | None = Field(description="The caller's Idempotency-Key.")
    caller: str | None
    correlation_id: str
    status: int | None = Field(description="HTTP status of its answer.")
    problem: ProblemDocument | None = Field(description="Why it failed, or its last attempt did.")
    usage: dict[str, int] | None = Field(description="Tokens of all its model calls.")
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    cancel_requested_at: Moment | None


class CallView(View):
    model_config = example(name="book_flight", n=1)

    name: str
    n: int = Field(description="Which of the equal calls it was, from 1.")


class AttemptView(View):
    model_config = example(**ATTEMPT)

    attempt: int
    epoch: int = Field(description="Of its lease; what an older one writes is refused.")
    state: AttemptState
    instance: str
    revision: str
    started_at: Moment
    ended_at: Moment | None
    problem: ProblemDocument | None
    reason: str | None = Field(description="Why it was lost.")
    unasked: list[CallView] = Field(
        description="Calls whose results earlier attempts recorded, and which this one did not make again."
    )


class RunDetails(RunView):
    model_config = example(**RUN, request={"method": "POST", "path": "/", "query": ""}, attempts=[ATTEMPT])

    request: dict[str, Any] = Field(
        description="Method, path, query and content type of the call; `stream` if it wanted events."
    )
    attempts: list[AttemptView]


class StepView(View):
    model_config = example(**STEP)

    id: str
    parent: str | None = Field(description="The step it is part of.")
    name: str | None
    kind: str | None = Field(description="node, agent, model, tool or function.")
    state: StepState = Field(description="A step that its attempt left unfinished has failed.")
    attempt: int
    started_at: Moment | None
    ended_at: Moment | None
    data: dict[str, Any] = Field(description="Tokens, model and the like.")
    input_event: int | None = Field(description="Number of the event whose content is its input.")
    output_event: int | None = Field(description="Number of the event whose content is its result.")


class EventView(View):
    model_config = example(**EVENT)

    seq: int
    event: str = Field(description="run.*, step.*, output or log.")
    at: Moment
    step: str | None
    parent: str | None
    name: str | None
    kind: str | None = Field(description="Kind of the step.")
    data: dict[str, Any] | None
    has_content: bool = Field(description="Whether /events/{seq}/content has something.")
