"""An Agno agent on the adapter: steps, answers, streams, inputs, sessions. Runs in Agno's own environment."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from agno.agent._init import set_telemetry
from agno.db.base import SessionType
from agno.db.in_memory import InMemoryDb
from agno.exceptions import InputCheckError, StopAgentRun
from agno.media import Image
from agno.run import RunContext
from agno.tools import tool as agno_tool
from agno.tools.function import ToolResult
from pydantic import BaseModel

from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.frameworks import agno as adapter
from orchestrator_runtime.frameworks.adapter import Answer, Input
from orchestrator_runtime.frameworks.values import create_input
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start
from tests.integration.agno.agents import MODELS, add, create_agent

START = create_start("agno")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


async def run(target: Any, value: Any = None, **given: Any) -> Answer:
    call, _ = create_call(value, **given)
    return await adapter.load(target, START).run(call)


@pytest.mark.parametrize("model", MODELS)
async def test_an_agent_run_its_model_calls_and_its_tools_become_steps(server: ModelServer, model: str) -> None:
    context = FakeRunContext()
    answer = await run(create_agent(server, model=model), 'use add {"a": 2, "b": 3}', run=context)
    assert answer == Answer(b"The tools said: 5", "text/plain; charset=utf-8")
    agent, first, tool, second = context.journal_.steps()
    assert [step["kind"] for step in (agent, first, tool, second)] == ["agent", "model", "tool", "model"]
    assert (agent["name"], json.loads(agent["result"]), agent["parent"]) == ("Calculator", "The tools said: 5", None)
    assert (tool["name"], tool["parent"], json.loads(tool["input"])) == ("add", agent["step"], {"a": 2, "b": 3})
    assert json.loads(tool["result"]) == {"value": 5}
    assert first["parent"] == second["parent"] == agent["step"]
    assert second["data"]["model"] == "fake-1"
    assert second["data"]["output_tokens"] == len("The tools said: 5".split())
    assert {step["state"] for step in context.journal_.steps()} == {"succeeded"}


async def test_an_asynchronous_tool_is_a_step_too(server: ModelServer) -> None:
    async def double(number: int) -> int:
        """Double a number."""
        return number * 2

    context = FakeRunContext()
    answer = await run(create_agent(server, tools=[double]), 'use double {"number": 21}', run=context)
    assert answer.body == b"The tools said: 42"
    assert [step["name"] for step in context.journal_.steps("tool")] == ["double"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_tool_that_raises_is_a_failed_step_and_the_model_hears_of_it(
    server: ModelServer, is_async: bool
) -> None:
    def divide(a: int) -> int:
        """Divide."""
        return a // 0

    async def divide_async(a: int) -> int:
        """Divide."""
        return a // 0

    context = FakeRunContext()
    tool = divide_async if is_async else divide
    answer = await run(create_agent(server, tools=[tool]), f'use {tool.__name__} {{"a": 1}}', run=context)
    (step,) = context.journal_.steps("tool")
    assert (step["state"], step["error"]) == ("failed", "integer division or modulo by zero")
    assert b"by zero" in answer.body


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_tool_that_stops_the_run_is_a_failed_step(server: ModelServer, is_async: bool) -> None:
    def leave() -> str:
        """Leave."""
        raise StopAgentRun("that is enough")

    async def leave_async() -> str:
        """Leave."""
        raise StopAgentRun("that is enough")

    context = FakeRunContext()
    tool = leave_async if is_async else leave
    await run(create_agent(server, tools=[tool]), f"use {tool.__name__} {{}}", run=context)
    (step,) = context.journal_.steps("tool")
    assert (step["state"], step["error"]) == ("failed", "that is enough")


async def test_what_an_agent_does_reaches_a_caller_who_streams_in_order(server: ModelServer) -> None:
    call, emitted = create_call('use add {"a": 2, "b": 3}', stream=True)
    await adapter.load(create_agent(server), START).run(call)
    names = [name for name, _ in emitted]
    assert names[0] == "RunStarted"
    assert names[-1] == "RunCompleted"
    assert names.index("ToolCallStarted") < names.index("ToolCallCompleted") < names.index("RunContent")
    text = "".join(data["content"] for name, data in emitted if name == "RunContent")
    assert text == "The tools said: 5"


async def test_model_calls_are_the_same_whether_the_caller_streams_or_not(server: ModelServer) -> None:
    agent = adapter.load(create_agent(server), START)
    await agent.run(create_call("hello", stream=True)[0])
    await agent.run(create_call("hello")[0])
    first, second = server.requests
    assert first.body == second.body


async def test_an_agent_that_says_that_it_does_not_stream_is_not_made_to(server: ModelServer) -> None:
    context = FakeRunContext()
    answer = await run(create_agent(server, stream=False), "hello", run=context)
    assert answer.body == b"Echo: hello"
    assert "stream" not in server.requests[0].body
    assert [(step["kind"], step["state"]) for step in context.journal_.steps()] == [
        ("agent", "succeeded"),
        ("model", "succeeded"),
    ]


class Sum(BaseModel):
    summary: str
    total: int


async def test_a_structured_output_is_json(server: ModelServer) -> None:
    answer = await run(create_agent(server, tools=[], output_schema=Sum), "seven")
    assert json.loads(answer.body) == {"summary": "seven", "total": 1}
    assert answer.content_type == "application/json"


class Question(BaseModel):
    message: str
    language: str


async def test_an_agent_with_an_input_schema_gets_the_whole_input(server: ModelServer) -> None:
    agent = create_agent(server, input_schema=Question)
    await run(agent, {"message": "hello", "language": "de"})
    assert json.loads(server.requests[0].body["messages"][-1]["content"]) == {"message": "hello", "language": "de"}
    with pytest.raises(Unprocessable, match="language") as raised:
        await run(agent, {"message": "hello"})
    assert raised.value.code == "input_invalid"


@pytest.mark.parametrize(
    ("value", "message"),
    [("hi", "hi"), ({"message": "hi"}, "hi"), ({"input": "hi", "more": 1}, "hi")],
)
async def test_the_message_is_a_text_or_a_member_of_the_input(server: ModelServer, value: Any, message: str) -> None:
    await run(create_agent(server), value)
    assert server.requests[0].body["messages"][-1]["content"] == message


async def test_any_other_object_is_the_message_as_json(server: ModelServer) -> None:
    await run(create_agent(server), {"title": "Login fails", "labels": ["bug"]})
    content = server.requests[0].body["messages"][-1]["content"]
    assert json.loads(content) == {"title": "Login fails", "labels": ["bug"]}


async def test_other_members_of_the_input_are_the_tools_dependencies(server: ModelServer) -> None:
    def look_up(run_context: RunContext) -> str:
        """Look it up."""
        return str(run_context.dependencies)

    agent = create_agent(server, tools=[look_up], dependencies={"region": "north", "year": 2025})
    answer = await run(agent, {"message": "use look_up {}", "year": 2026})
    assert answer.body == b"The tools said: {'region': 'north', 'year': 2026}"


async def test_a_table_in_the_body_is_a_file_and_a_text_is_the_message(server: ModelServer) -> None:
    for content_type in ("text/csv", "text/plain; charset=utf-8", "text/json"):
        await run(create_agent(server), given=Input(body=b'"a,b"', content_type=content_type, query="message=look"))
    contents = [request.body["messages"][-1]["content"] for request in server.requests]
    assert [part["type"] for part in contents[0]] == ["file", "text"]
    assert contents[1:] == ['"a,b"', "a,b"]


async def test_a_conversation_is_sent_as_it_is(server: ModelServer) -> None:
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "bye"},
    ]
    await run(create_agent(server), said)
    assert server.requests[0].body["messages"] == said


async def test_an_event_without_data_is_its_attributes(server: ModelServer) -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created"}
    await run(create_agent(server), given=Input(body=b"", attributes=attributes))
    assert "order.created" in server.requests[0].body["messages"][-1]["content"]


async def test_nothing_at_all_is_refused(server: ModelServer) -> None:
    with pytest.raises(BadInput) as raised:
        await run(create_agent(server), given=Input(body=b""))
    assert raised.value.code == "input_missing"
    assert server.requests == []


def multipart(*parts: tuple[str, str | None, str, bytes]) -> Input:
    """Parts: name, file name, content type, body."""
    body = b""
    for name, filename, content_type, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: {content_type}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return create_input(body + b"--b--\r\n", content_type="multipart/form-data; boundary=b")


async def test_an_image_in_the_body_reaches_the_model(server: ModelServer) -> None:
    given = Input(body=PIXEL, content_type="image/png", query="message=what+is+it")
    answer = await run(create_agent(server), given=given)
    text, image = server.requests[0].body["messages"][-1]["content"]
    assert text["text"] == "what is it"
    assert image["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    assert answer.body == b"Echo: what is it"


async def test_an_image_and_an_audio_file_of_a_form_reach_the_model(server: ModelServer) -> None:
    given = multipart(
        ("message", None, "text/plain", b"compare"),
        ("picture", "a.png", "image/png", PIXEL),
        ("sound", "a.wav", "audio/x-wav", b"RIFF"),
    )
    await run(create_agent(server), given=given)
    text, image, audio = server.requests[0].body["messages"][-1]["content"]
    assert text["text"] == "compare"
    assert image["type"] == "image_url"
    assert audio["input_audio"] == {"data": base64.b64encode(b"RIFF").decode(), "format": "wav"}


async def test_a_file_without_a_word_is_enough(server: ModelServer) -> None:
    given = multipart(("report", "report.csv", "application/octet-stream", b"a,b\n1,2\n"))
    await run(create_agent(server), given=given)
    file, text = server.requests[0].body["messages"][-1]["content"]
    assert text["text"] == "See what is attached."
    assert file["file"]["filename"] == "report.csv"
    assert base64.b64encode(b"a,b\n1,2\n").decode() in file["file"]["file_data"]


async def test_tools_get_the_files_and_videos_of_the_request(server: ModelServer) -> None:
    def look(files: Any = None, videos: Any = None) -> str:
        """Look at what is attached."""
        return f"{[file.content for file in files]} {[video.format for video in videos]}"

    given = multipart(
        ("message", None, "text/plain", b"use look {}"),
        ("data", "data.bin", "application/x-unknown", b"\x00"),
        ("film", "a.mp4", "video/mp4", b"film"),
    )
    answer = await run(create_agent(server, tools=[look], send_media_to_model=False), given=given)
    assert answer.body == b"The tools said: [b'\\x00'] ['mp4']"


async def test_a_session_has_a_history_that_the_journal_keeps(server: ModelServer) -> None:
    journal = Journal()
    settings: dict[str, Any] = {"add_history_to_context": True}
    await run(create_agent(server, **settings), "my name is Ada", run=FakeRunContext(journal, session="s"))
    await run(
        create_agent(server, **settings), "who am I", run=FakeRunContext(journal, session="s")
    )  # another instance
    await run(create_agent(server, **settings), "who am I", run=FakeRunContext(journal, session="other"))
    contents = [[message["content"] for message in request.body["messages"]] for request in server.requests]
    assert contents[1] == ["my name is Ada", "Echo: my name is Ada", "who am I"]
    assert contents[2] == ["who am I"]
    assert set(journal.sessions) == {"s", "other"}


def remember(run_context: RunContext, name: str) -> str:
    """Remember a name."""
    assert run_context.session_state is not None
    run_context.session_state.setdefault("names", []).append(name)
    return f"{len(run_context.session_state['names'])} names"


async def test_a_session_has_a_state_that_tools_change(server: ModelServer) -> None:
    journal = Journal()
    for name in ("Ada", "Grace"):
        agent = create_agent(server, tools=[remember], session_state={})
        answer = await run(agent, f'use remember {{"name": "{name}"}}', run=FakeRunContext(journal, session="s"))
    assert answer.body == b"The tools said: 2 names"


async def test_a_second_attempt_is_answered_from_the_journal_and_restores_the_state(server: ModelServer) -> None:
    """As after a crash between the session's commit and the run's end: the history has this very run already."""
    journal = Journal()
    tools: dict[str, Any] = {"tools": [remember], "session_state": {}, "add_history_to_context": True}
    value = 'use remember {"name": "Ada"}'
    first = FakeRunContext(journal, run="run-1", session="s")
    again = FakeRunContext(journal, run="run-1", session="s", attempt=2)
    answers = [await run(create_agent(server, **tools), value, run=context) for context in (first, again)]
    assert answers[0] == answers[1]
    assert len(server.requests) == 2
    session = json.loads(journal.sessions["s"])["session"]
    assert session["session_data"]["session_state"]["names"] == ["Ada"]
    assert len(session["runs"]) == 1


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
        await run(create_agent(server, tools=[open_it]), "use open_it {}", run=context)
    assert ran == ["open_it", "open_it"]
    assert len(server.requests) == 2


async def test_a_result_with_pictures_is_answered_whole(server: ModelServer) -> None:
    ran = []

    def draw() -> ToolResult:
        """Draw."""
        ran.append("draw")
        return ToolResult(content="drawn", images=[Image(content=PIXEL, id="one")])

    journal = Journal()
    for attempt in (1, 2):
        context = FakeRunContext(journal, run="run-1", attempt=attempt)
        answer = await run(create_agent(server, tools=[draw]), "use draw {}", run=context)
    assert ran == ["draw"]
    assert answer.body == b"The tools said: drawn"


async def test_a_generator_runs_as_it_is(server: ModelServer) -> None:
    async def count() -> AsyncIterator[str]:
        """Count."""
        for number in ("one ", "two"):
            yield number

    context = FakeRunContext()
    answer = await run(create_agent(server, tools=[count]), "use count {}", run=context)
    assert answer.body == b"The tools said: one two"
    assert context.journal_.steps("tool") == []


async def test_a_model_that_fails_fails_the_run(server: ModelServer) -> None:
    context = FakeRunContext()
    with pytest.raises(AgentError, match="as asked for") as raised:
        await run(create_agent(server), "fail 400", run=context)
    assert raised.value.code == "agent_failed"
    assert [(step["kind"], step["state"]) for step in context.journal_.steps()] == [
        ("agent", "failed"),
        ("model", "failed"),
    ]


async def test_what_a_guardrail_refuses_is_the_callers_mistake(server: ModelServer) -> None:
    def refuse(run_input: Any) -> None:
        raise InputCheckError("no poems")

    with pytest.raises(Unprocessable, match="no poems") as raised:
        await run(create_agent(server, pre_hooks=[refuse]), "a poem please")
    assert raised.value.code == "input_refused"


async def test_an_agent_that_wants_a_person_fails_and_says_so(server: ModelServer) -> None:
    confirmed = agno_tool(requires_confirmation=True)(add)
    with pytest.raises(AgentError) as raised:
        await run(create_agent(server, tools=[confirmed]), 'use add {"a": 1, "b": 1}')
    assert raised.value.code == "agent_paused"


async def test_an_error_of_the_agents_own_code_leaves_no_step_open(server: ModelServer) -> None:
    context = FakeRunContext()
    call, _ = create_call("hello", run=context, stream=True)

    async def emit(event: str, data: Any) -> None:
        raise ConnectionError("the caller is gone")

    with pytest.raises(ConnectionError):
        await adapter.load(create_agent(server), START).run(
            type(call)(input=call.input, run=call.run, stream=True, emit=emit)
        )
    assert [step["state"] for step in context.journal_.steps()] == ["failed"]


@pytest.mark.parametrize("target", [add, "agent", object(), None])
def test_anything_else_is_refused(target: Any) -> None:
    with pytest.raises(AgentError, match="agent:agent is a") as raised:
        adapter.load(target, START)
    assert raised.value.code == "entrypoint_wrong_framework"


async def test_an_agent_with_a_database_keeps_its_own_sessions(server: ModelServer) -> None:
    db, journal = InMemoryDb(), Journal()
    await run(create_agent(server, db=db), "hello", run=FakeRunContext(journal, session="s"))
    assert journal.sessions == {}
    assert db.get_session("s", session_type=SessionType.AGENT) is not None


async def test_two_runs_at_once_do_not_meet(server: ModelServer) -> None:
    agent = adapter.load(create_agent(server), START)
    contexts = [FakeRunContext(session=f"s{number}") for number in range(2)]
    calls = [
        create_call(f'use add {{"a": {number}, "b": 1}}', run=context)[0] for number, context in enumerate(contexts)
    ]
    answers = await asyncio.gather(*(agent.run(call) for call in calls))
    assert [answer.body for answer in answers] == [b"The tools said: 1", b"The tools said: 2"]
    assert [len(context.journal_.steps()) for context in contexts] == [4, 4]


def test_telemetry_is_off(server: ModelServer) -> None:
    agent = create_agent(server)
    set_telemetry(agent)
    assert agent.telemetry is False
