"""Agno's teams and workflows on the adapter. Runs in Agno's own environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from agno.media import Image
from agno.team import Team
from agno.workflow import Step, Workflow
from agno.workflow.types import HumanReview, OnError, StepInput, StepOutput

from orchestrator_runtime.frameworks import agno as adapter
from orchestrator_runtime.frameworks.adapter import Input
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start
from tests.integration.agno.agents import MODELS, create_agent

START = create_start("agno")
DELEGATE = json.dumps({"member_id": "calculator", "task": 'use add {"a": 2, "b": 5}'})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


def create_team(server: ModelServer, **settings: Any) -> Team:
    return Team(name="Office", model=MODELS["chat"](server), members=[create_agent(server)], **settings)


def create_workflow(server: ModelServer, *, steps: list[Any] | None = None, **settings: Any) -> Workflow:
    agents = [
        Step(name=name, agent=create_agent(server, name=name.title(), tools=[])) for name in ("research", "write")
    ]
    return Workflow(name="Report", steps=steps or agents, **settings)


def tree(journal: Journal) -> list[tuple[str, str, str | None]]:
    """Each step: its kind, its name and its parent's name."""
    names = {step["step"]: step["name"] for step in journal.steps()}
    return [(step["kind"], step["name"], names.get(step["parent"])) for step in journal.steps()]


@pytest.mark.parametrize("shows_members", [True, False])
async def test_members_of_a_team_are_steps_below_it(server: ModelServer, shows_members: bool) -> None:
    context = FakeRunContext()
    call, _ = create_call(f"use delegate_task_to_member {DELEGATE}", run=context)
    answer = await adapter.load(create_team(server, stream_member_events=shows_members), START).run(call)
    assert answer.body == b"The tools said: The tools said: 7"
    assert tree(context.journal_) == [
        ("agent", "Office", None),
        ("model", "fake-1", "Office"),
        ("agent", "Calculator", "Office"),
        ("model", "fake-1", "Calculator"),
        ("tool", "add", "Calculator"),
        ("model", "fake-1", "Calculator"),
        ("model", "fake-1", "Office"),
    ]
    assert {step["state"] for step in context.journal_.steps()} == {"succeeded"}


async def test_a_second_attempt_of_a_team_repeats_no_recorded_call(server: ModelServer) -> None:
    journal = Journal()
    for attempt in (1, 2):
        context = FakeRunContext(journal, run="run-1", attempt=attempt)
        call, _ = create_call(f"use delegate_task_to_member {DELEGATE}", run=context)
        answer = await adapter.load(create_team(server), START).run(call)
        assert answer.body == b"The tools said: The tools said: 7"
    assert len(server.requests) == 4
    assert [step["attempt"] for step in journal.steps("tool")] == [1]


async def test_steps_of_a_workflow_and_their_agents_are_steps(server: ModelServer) -> None:
    context = FakeRunContext()
    call, emitted = create_call({"message": "rivers", "length": 3}, run=context, stream=True)
    answer = await adapter.load(create_workflow(server), START).run(call)
    assert answer.body == b"Echo: Echo: rivers"
    assert tree(context.journal_) == [
        ("agent", "Report", None),
        ("node", "research", "Report"),
        ("agent", "Research", "research"),
        ("model", "fake-1", "Research"),
        ("node", "write", "Report"),
        ("agent", "Write", "write"),
        ("model", "fake-1", "Write"),
    ]
    assert emitted[0][0] == "WorkflowStarted"
    assert emitted[-1][0] == "WorkflowCompleted"


async def test_a_function_of_a_workflow_gets_the_rest_of_the_input(server: ModelServer) -> None:
    def measure(step_input: StepInput) -> StepOutput:
        return StepOutput(content=f"{step_input.input} {step_input.additional_data}")

    call, _ = create_call({"message": "rivers", "length": 3})
    workflow = create_workflow(server, steps=[Step(name="measure", executor=measure)])
    answer = await adapter.load(workflow, START).run(call)
    assert answer.body == b"rivers {'length': 3}"


async def test_a_workflow_keeps_its_session_in_the_journal(server: ModelServer) -> None:
    journal = Journal()
    for message in ("one", "two"):
        call, _ = create_call(message, run=FakeRunContext(journal, session="s"))
        await adapter.load(create_workflow(server), START).run(call)
    session = json.loads(journal.sessions["s"])["session"]
    assert [run["input"] for run in session["runs"]] == ["one", "two"]


def burst(step_input: StepInput) -> StepOutput:
    raise ValueError("the pipe is full")


async def test_a_step_that_a_workflow_skips_is_a_failed_step_of_a_run_that_succeeds(server: ModelServer) -> None:
    context = FakeRunContext()
    call, _ = create_call("go", run=context)
    steps = [Step(name="burst", executor=burst, max_retries=0)]
    answer = await adapter.load(create_workflow(server, steps=steps), START).run(call)
    assert answer.body == b"Step skipped due to error: the pipe is full"
    assert [(step["name"], step["state"]) for step in context.journal_.steps()] == [
        ("Report", "succeeded"),
        ("burst", "failed"),
    ]


@pytest.mark.parametrize("stream", [None, False])
async def test_a_step_that_may_not_fail_fails_the_run(server: ModelServer, stream: bool | None) -> None:
    context = FakeRunContext()
    call, _ = create_call("go", run=context)
    steps = [Step(name="burst", executor=burst, max_retries=0, human_review=HumanReview(on_error=OnError.fail))]
    with pytest.raises(Exception, match="the pipe is full"):
        await adapter.load(create_workflow(server, steps=steps, stream=stream), START).run(call)
    assert {step["state"] for step in context.journal_.steps()} == {"failed"}


async def test_a_workflow_that_does_not_stream_gives_its_answer_too(server: ModelServer) -> None:
    context = FakeRunContext()
    call, _ = create_call("rivers", run=context)
    answer = await adapter.load(create_workflow(server, stream=False), START).run(call)
    assert answer.body == b"Echo: Echo: rivers"
    assert tree(context.journal_)[0] == ("agent", "Report", None)


async def test_a_picture_that_an_agent_made_is_the_answer(server: ModelServer) -> None:
    def draw(step_input: StepInput) -> StepOutput:
        return StepOutput(content="", images=[Image(content=b"PNG", mime_type="image/png")])

    call, _ = create_call(given=Input(body=b"draw", content_type="text/plain"))
    workflow = create_workflow(server, steps=[Step(name="draw", executor=draw)])
    answer = await adapter.load(workflow, START).run(call)
    assert (answer.body, answer.content_type) == (b"PNG", "image/png")
