"""Flows of CrewAI on the adapter. Runs in CrewAI's own environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from crewai.flow.flow import Flow, listen, start
from pydantic import BaseModel

from orchestrator_runtime.frameworks import crewai as adapter
from orchestrator_runtime.frameworks.adapter import Answer
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start
from tests.integration.crewai.crews import add, create_agent, create_crew

START = create_start("crewai")
servers: list[ModelServer] = []


@pytest.fixture(autouse=True)
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        servers.append(running)
        yield running
        servers.clear()


async def run(target: Any, value: Any = None, **given: Any) -> Answer:
    call, _ = create_call(value, **given)
    return await adapter.load(target, START).run(call)


def tree(journal: Journal) -> list[tuple[str, str, str | None]]:
    names = {step["step"]: step["name"] for step in journal.steps()}
    return [(step["kind"], step["name"], names.get(step["parent"])) for step in journal.steps()]


class Report(Flow):
    """One method that waits for a crew, and one that is asynchronous."""

    tone: str = "plain"

    def research(self) -> str:
        self.state["runs"] = self.state.get("runs", 0) + 1
        return str(create_crew(servers[0]).kickoff({"request": f"{self.tone} {self.state['topic']}"}).raw)

    async def write(self, found: str) -> dict[str, Any]:
        written = await create_agent(servers[0], add, role="Writer").kickoff_async('use add {"a": 1, "b": 1}')
        return {"runs": self.state["runs"], "topic": self.state["topic"], "written": written.raw}

    research = start()(research)
    write = listen(research)(write)


async def test_methods_crews_and_agents_of_a_flow_are_steps(server: ModelServer) -> None:
    context = FakeRunContext()
    answer = await run(Report, {"topic": "rivers"}, run=context)
    assert json.loads(answer.body) == {"runs": 1, "topic": "rivers", "written": "The tools said: 2"}
    assert tree(context.journal_) == [
        ("node", "Report", None),
        ("node", "research", "Report"),
        ("node", "Office", "research"),
        ("node", "answer", "Office"),
        ("agent", "Calculator", "answer"),
        ("model", "fake-1", "Calculator"),
        ("node", "write", "Report"),
        ("agent", "Writer", "write"),
        ("model", "fake-1", "Writer"),
        ("tool", "add", "Writer"),
        ("model", "fake-1", "Writer"),
    ]
    assert {step["state"] for step in context.journal_.steps()} == {"succeeded"}


async def test_a_second_attempt_of_a_flow_repeats_no_recorded_call(server: ModelServer) -> None:
    journal = Journal()
    answers = []
    for attempt in (1, 2):
        context = FakeRunContext(journal, run="run-1", attempt=attempt)
        answers.append(await run(Report, {"topic": "rivers"}, run=context))
    assert answers[0] == answers[1]
    assert len(server.requests) == 3


async def test_a_flow_object_is_made_anew_for_each_run_with_its_own_settings(server: ModelServer) -> None:
    flow = Report(tone="poetic")
    for _ in range(2):
        answer = await run(flow, {"topic": "rivers"})
        assert json.loads(answer.body)["runs"] == 1
    assert all("poetic rivers" in str(server.requests[index].body) for index in (0, 3))


async def test_in_a_session_a_flow_goes_on_with_its_state() -> None:
    journal = Journal()
    await run(Report, {"topic": "rivers"}, run=FakeRunContext(journal, run="run-1", session="s"))
    answer = await run(Report, {}, run=FakeRunContext(journal, run="run-2", session="s"))
    assert json.loads(answer.body)["runs"] == 2
    assert json.loads(answer.body)["topic"] == "rivers"
    again = await run(Report, {}, run=FakeRunContext(journal, run="run-2", session="s", attempt=2))
    assert again == answer  # it had been saved, but the run had not ended


class Count(BaseModel):
    id: str = ""
    number: int = 0


class Counter(Flow[Count]):
    def count(self) -> int:
        self.state.number += 1
        return self.state.number

    count = start()(count)


async def test_a_state_with_a_model_is_kept_too() -> None:
    journal = Journal()
    answers = [(await run(Counter, {}, run=FakeRunContext(journal, session="s"))).body for _ in range(3)]
    assert answers == [b"1", b"2", b"3"]


class Failing(Flow):
    def fall(self) -> None:
        raise ValueError("fallen")

    fall = start()(fall)


async def test_a_method_that_raises_fails_the_run_and_its_steps() -> None:
    context = FakeRunContext()
    with pytest.raises(ValueError, match="fallen"):
        await run(Failing, {}, run=context)
    assert [(step["name"], step["state"]) for step in context.journal_.steps()] == [
        ("Failing", "failed"),
        ("fall", "failed"),
    ]
