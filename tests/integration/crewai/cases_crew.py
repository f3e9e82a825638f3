"""Crews and single agents of CrewAI on the adapter. Runs in CrewAI's own environment."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from crewai import Agent, Crew, Task
from crewai.project import CrewBase, agent, crew, task
from crewai.tools import BaseTool
from crewai.tools.structured_tool import CrewStructuredTool
from pydantic import BaseModel

from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.frameworks import crewai as adapter
from orchestrator_runtime.frameworks import crewai_calls
from orchestrator_runtime.frameworks.adapter import Answer, Input, Part
from orchestrator_runtime.frameworks.current import running
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start
from tests.integration.crewai.crews import add, create_agent, create_crew

START = create_start("crewai")
ADD = {"request": 'use add {"a": 2, "b": 3}'}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as started:
        yield started


async def run(target: Any, value: Any = None, **given: Any) -> Answer:
    call, _ = create_call(value, **given)
    return await adapter.load(target, START).run(call)


def tree(journal: Journal) -> list[tuple[str, str, str | None]]:
    """Each step: its kind, its name and its parent's name."""
    names = {step["step"]: step["name"] for step in journal.steps()}
    return [(step["kind"], step["name"], names.get(step["parent"])) for step in journal.steps()]


async def test_a_crew_its_tasks_agents_models_and_tools_become_steps(server: ModelServer) -> None:
    context = FakeRunContext()
    answer = await run(create_crew(server), ADD, run=context)
    assert answer == Answer(b"The tools said: 5", "text/plain; charset=utf-8")
    assert tree(context.journal_) == [
        ("node", "Office", None),
        ("node", "answer", "Office"),
        ("agent", "Calculator", "answer"),
        ("model", "fake-1", "Calculator"),
        ("tool", "add", "Calculator"),
        ("model", "fake-1", "Calculator"),
    ]
    steps = context.journal_.steps()
    assert {step["state"] for step in steps} == {"succeeded"}
    assert json.loads(steps[0]["input"]) == ADD
    assert json.loads(steps[4]["input"]) == {"a": 2, "b": 3}
    assert json.loads(steps[4]["result"]) == {"value": 5}
    assert steps[5]["data"]["output_tokens"] == len("The tools said: 5".split())


async def test_events_reach_a_caller_who_streams_in_order(server: ModelServer) -> None:
    call, emitted = create_call(ADD, stream=True)
    await adapter.load(create_crew(server, stream=True), START).run(call)
    names = [name for name, _ in emitted]
    assert names.index("crew_kickoff_started") < names.index("task_started") < names.index("tool_usage_started")
    assert names.index("tool_usage_finished") < names.index("task_completed") < names.index("crew_kickoff_completed")
    chunks = [data["chunk"] for name, data in emitted if name == "llm_stream_chunk"]
    assert "".join(chunks).endswith("The tools said: 5")
    assert next(data for name, data in emitted if name == "task_completed")["task_name"] == "answer"


async def test_a_crew_that_streams_itself_gives_its_answer(server: ModelServer) -> None:
    crew = create_crew(server)
    crew.stream = True
    assert (await run(crew, ADD)).body == b"The tools said: 5"


async def test_the_second_of_two_agents_gets_what_the_first_said(server: ModelServer) -> None:
    first, second = create_agent(server, role="Finder"), create_agent(server, role="Writer")
    tasks = [
        Task(name="find", description="Find {request}", expected_output="Facts", agent=first),
        Task(name="write", description="Write it down", expected_output="A text", agent=second),
    ]
    context = FakeRunContext()
    await run(Crew(name="Pair", agents=[first, second], tasks=tasks), {"request": "rivers"}, run=context)
    assert [name for kind, name, _ in tree(context.journal_) if kind == "agent"] == ["Finder", "Writer"]
    assert "Find rivers" in str(server.requests[1].body["messages"])


class Report(BaseModel):
    summary: str
    severity: int


async def test_a_pydantic_output_is_json(server: ModelServer) -> None:
    writer = create_agent(server)
    task = Task(description="seven", expected_output="A report", agent=writer, output_pydantic=Report)
    answer = await run(Crew(agents=[writer], tasks=[task]), {})
    assert answer.content_type == "application/json"
    assert json.loads(answer.body)["severity"] == 1


async def test_missing_inputs_are_named_before_anything_runs(server: ModelServer) -> None:
    with pytest.raises(Unprocessable, match="The crew needs request") as raised:
        await run(create_crew(server), {"other": 1})
    assert raised.value.code == "input_invalid"
    assert server.requests == []


async def test_a_text_is_the_input_named_input(server: ModelServer) -> None:
    writer = create_agent(server)
    task = Task(description="Say: {input}", expected_output="A text", agent=writer)
    await run(Crew(agents=[writer], tasks=[task]), "hello")
    assert "Say: hello" in str(server.requests[0].body["messages"])


async def test_fields_and_text_files_of_a_form_are_inputs(server: ModelServer) -> None:
    parts = (Part("request", b"look"), Part("log", b"boom", "text/x-log", "a.log"))
    writer = create_agent(server)
    task = Task(description="{request} at {log}", expected_output="A text", agent=writer)
    await run(Crew(agents=[writer], tasks=[task]), given=Input(body=b"", parts=parts))
    assert "look at boom" in str(server.requests[0].body["messages"])


async def test_a_picture_is_refused(server: ModelServer) -> None:
    with pytest.raises(Unprocessable) as raised:
        await run(create_crew(server), given=Input(body=b"\x89PNG\r\n\xff", content_type="image/png"))
    assert raised.value.code == "input_not_text"


async def test_the_attributes_of_an_event_without_data_are_inputs(server: ModelServer) -> None:
    writer = create_agent(server)
    task = Task(description="It was {type}", expected_output="A text", agent=writer)
    attributes = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
    await run(Crew(agents=[writer], tasks=[task]), given=Input(body=b"", attributes=attributes))
    assert "It was order.created" in str(server.requests[0].body["messages"])


async def test_a_second_attempt_repeats_no_recorded_call(server: ModelServer) -> None:
    ran = []

    def note(text: str) -> str:
        """Note a text."""
        ran.append(text)
        return f"noted {text}"

    journal = Journal()
    for attempt in (1, 2):
        context = FakeRunContext(journal, run="run-1", attempt=attempt)
        answer = await run(create_crew(server, note), {"request": 'use note {"text": "a"}'}, run=context)
        assert answer.body == b"The tools said: noted a"
    assert ran == ["a"]
    assert len(server.requests) == 2


async def test_a_tool_that_raises_is_a_failed_step(server: ModelServer) -> None:
    def divide(a: int) -> int:
        """Divide."""
        return a // 0

    context = FakeRunContext()
    await run(create_crew(server, divide), {"request": 'use divide {"a": 1}'}, run=context)
    step = context.journal_.steps("tool")[0]
    assert step["state"] == "failed"
    assert "by zero" in step["error"]


async def test_a_model_that_fails_fails_the_run_and_its_steps(server: ModelServer) -> None:
    context = FakeRunContext()
    with pytest.raises(Exception, match="as asked for"):
        await run(create_crew(server), {"request": "fail 400"}, run=context)
    assert {step["state"] for step in context.journal_.steps()} == {"failed"}


async def test_a_single_agent_takes_a_text_a_message_or_any_json(server: ModelServer) -> None:
    for value in ("hello", {"message": "hello"}, {"input": "hello"}):
        answer = await run(create_agent(server), value)
        assert b"hello" in answer.body
    await run(create_agent(server), {"title": "Login fails"})
    assert '{\\"title\\": \\"Login fails\\"}' in json.dumps(server.requests[-1].body)
    with pytest.raises(BadInput) as raised:
        await run(create_agent(server), given=Input(body=b""))
    assert raised.value.code == "input_missing"


async def test_a_single_agent_is_a_step_with_its_tools(server: ModelServer) -> None:
    context = FakeRunContext()
    await run(create_agent(server, add), ADD["request"], run=context)
    assert tree(context.journal_) == [
        ("agent", "Calculator", None),
        ("model", "fake-1", "Calculator"),
        ("tool", "add", "Calculator"),
        ("model", "fake-1", "Calculator"),
    ]


async def test_two_runs_at_once_do_not_meet(server: ModelServer) -> None:
    crew = adapter.load(create_crew(server), START)
    contexts = [FakeRunContext() for _ in range(2)]
    calls = [
        create_call({"request": f'use add {{"a": {number}, "b": 1}}'}, run=context)[0]
        for number, context in enumerate(contexts)
    ]
    answers = await asyncio.gather(*(crew.run(call) for call in calls))
    assert [answer.body for answer in answers] == [b"The tools said: 1", b"The tools said: 2"]
    assert [len(context.journal_.steps()) for context in contexts] == [6, 6]


async def test_a_cancelled_run_stops_before_its_next_call(server: ModelServer) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def wait() -> str:
        """Wait."""
        begun.set()
        assert goes_on.wait(30)
        return "waited"

    context = FakeRunContext()
    call, _ = create_call({"request": "use wait {}"}, run=context)
    cancelled = asyncio.create_task(adapter.load(create_crew(server, wait), START).run(call))
    await asyncio.to_thread(begun.wait, 30)
    context.cancelled = True  # as the attempt says before it cancels
    cancelled.cancel()
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert len(server.requests) == 1
    assert {step["state"] for step in context.journal_.steps()} == {"failed", "succeeded"}


async def test_a_run_whose_context_says_that_it_is_cancelled_stops_too(server: ModelServer) -> None:
    context = FakeRunContext()
    context.cancelled = True
    with pytest.raises(crewai_calls.Stopped):
        await run(create_crew(server), ADD, run=context)
    assert server.requests == []


class Office:
    """As `crewai create crew` lays it out, without its YAML."""

    agents_config: ClassVar[dict[str, Any]] = {}
    tasks_config: ClassVar[dict[str, Any]] = {}
    server: ModelServer

    def clerk(self) -> Agent:
        return create_agent(self.server, add)

    def answer(self) -> Task:
        return Task(name="answer", description="{request}", expected_output="A text", agent=self.clerk())

    def crew(self) -> Crew:
        return Crew(name="Class", agents=self.agents, tasks=self.tasks)  # type: ignore[attr-defined]


async def test_a_class_of_a_crew_makes_one_for_each_run(server: ModelServer) -> None:
    members = {
        **vars(Office),
        "server": server,
        "clerk": agent(Office.clerk),
        "answer": task(Office.answer),
        "crew": crew(Office.crew),
    }
    office = CrewBase(type("Office", (), {key: value for key, value in members.items() if key != "__dict__"}))
    context = FakeRunContext()
    assert (await run(office, ADD, run=context)).body == b"The tools said: 5"
    assert tree(context.journal_)[0] == ("node", "Class", None)


@pytest.mark.parametrize("target", [add, "crew", object(), None, Task])
def test_anything_else_is_refused(target: Any) -> None:
    with pytest.raises(AgentError, match="agent:agent is a") as raised:
        adapter.load(target, START)
    assert raised.value.code == "entrypoint_wrong_framework"


class Doubler(BaseTool):
    name: str = "double"
    description: str = "Double a number."
    ran: int = 0

    def _run(self, number: int) -> int:
        self.ran += 1
        return number * 2

    async def _arun(self, number: int) -> int:
        return self._run(number)


@pytest.mark.parametrize(
    "use",
    [
        lambda tool: asyncio.to_thread(tool.run, number=4),
        lambda tool: tool.arun(number=4),
        lambda tool: asyncio.to_thread(tool.to_structured_tool().invoke, {"number": 4}),
        lambda tool: tool.to_structured_tool().ainvoke(input={"number": 4}, config={"noise": 1}),
    ],
    ids=["run", "arun", "invoke", "ainvoke"],
)
async def test_a_tool_is_recorded_whichever_way_it_is_called(use: Any) -> None:
    crewai_calls.install()
    tool, journal = Doubler(max_usage_count=5), Journal()
    for attempt in (1, 2):
        call, _ = create_call(run=FakeRunContext(journal, run="run-1", attempt=attempt))
        with running(call):
            assert await use(tool) == 8
    assert tool.ran == 1
    assert tool.current_usage_count == 2
    assert [step["name"] for step in journal.steps()] == ["double"]
    assert await use(tool) == 8  # outside of a run
    assert tool.ran == 2


async def test_an_asynchronous_tool_that_fails_is_a_failed_step() -> None:
    async def break_down() -> None:
        """Break down."""
        raise ValueError("broken")

    crewai_calls.install()
    tool = CrewStructuredTool.from_function(break_down, name="break_down")
    context = FakeRunContext()
    with running(create_call(run=context)[0]) as active:
        with pytest.raises(ValueError, match="broken"):
            await tool.ainvoke({})
        await active.settle()
    assert [(step["name"], step["state"]) for step in context.journal_.steps()] == [("break_down", "failed")]


async def test_a_tool_whose_result_cannot_be_kept_runs_again(server: ModelServer) -> None:
    ran = []

    class Handle:
        def __reduce__(self) -> str:
            raise TypeError("a handle stays where it is")

        def __str__(self) -> str:
            return "handle"

    def open_it() -> Any:
        """Open it."""
        ran.append("open_it")
        return Handle()

    journal = Journal()
    for attempt in (1, 2):
        context = FakeRunContext(journal, run="run-1", attempt=attempt)
        await run(create_crew(server, open_it), {"request": "use open_it {}"}, run=context)
    assert ran == ["open_it", "open_it"]
    assert len(server.requests) == 2


def test_nothing_is_sent_home_and_files_go_to_the_scratch_disk() -> None:
    assert os.environ["CREWAI_DISABLE_TELEMETRY"] == "true"
    assert os.environ["CREWAI_TRACING_ENABLED"] == "false"
    assert importlib.import_module("crewai_core.paths").db_storage_path() == "/tmp/crewai"
