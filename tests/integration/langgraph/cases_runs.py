"""Graphs as agents: what goes in, what comes out, which steps a run has, what is streamed, what a session keeps."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from orchestrator_runtime.contract.errors import AgentError, BadInput, Unprocessable
from orchestrator_runtime.frameworks.adapter import Input
from orchestrator_runtime.frameworks.langgraph import load
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.integration.langgraph import graphs
from tests.integration.langgraph.graphs import outline, run, stream


class Count(TypedDict):
    n: int
    log: Annotated[list[str], operator.add]


def plus(state: Count) -> dict[str, Any]:
    return {"n": state["n"] + 1, "log": [f"plus at {state['n']}"]}


async def twice(state: Count) -> dict[str, Any]:
    return {"n": state["n"] * 2, "log": [f"twice at {state['n']}"]}


def count() -> StateGraph[Any]:
    graph = StateGraph(Count)
    graph.add_node(plus)
    graph.add_node(twice)
    graph.add_edge(START, "plus")
    graph.add_edge("plus", "twice")
    graph.add_edge("twice", END)
    return graph


@task
def square(number: int) -> int:
    return number * number


@entrypoint()
async def squares(numbers: list[int]) -> int:
    return sum([await square(number) for number in numbers])


# what goes in and what comes out


@pytest.mark.parametrize("graph", [count(), count().compile(), count().compile(checkpointer=InMemorySaver())])
async def test_a_graph_runs_whether_it_is_compiled_or_not(graph: Any) -> None:
    assert await run(graph, {"n": 1}) == {"n": 4, "log": ["plus at 1", "twice at 2"]}


async def test_a_function_of_the_functional_api_runs_on_any_json() -> None:
    assert await run(squares, [1, 2, 3]) == 14


async def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(AgentError) as refused:
        load(plus, graphs.START)
    assert refused.value.code == "entrypoint_wrong_framework"
    assert "framework: plain" in refused.value.hint


async def test_a_graph_that_cannot_be_compiled_is_refused() -> None:
    graph = StateGraph(Count)
    graph.add_edge("nowhere", END)
    with pytest.raises(AgentError) as refused:
        load(graph, graphs.START)
    assert refused.value.code == "graph_invalid"


async def test_messages_become_json() -> None:
    answer = await run(chat(GenericFakeChatModel(messages=iter([AIMessage("hello")]))), {"messages": "hi"})
    assert [(message["type"], message["content"]) for message in answer["messages"]] == [
        ("human", "hi"),
        ("ai", "hello"),
    ]


@pytest.mark.parametrize(("body", "content_type"), [(b"hi", "text/plain"), (b'"hi"', "application/json")])
async def test_a_text_is_a_message_for_a_graph_that_has_messages(body: bytes, content_type: str) -> None:
    graph = chat(GenericFakeChatModel(messages=iter([AIMessage("hello")])))
    answer = await run(graph, given=Input(body, content_type))
    assert answer["messages"][0]["content"] == "hi"


async def test_bytes_are_the_only_member_of_a_graph_that_has_one() -> None:
    class Blob(TypedDict):
        data: Any

    graph = StateGraph(Blob)
    graph.add_node("measure", lambda state: {"data": len(state["data"])})
    graph.set_entry_point("measure")
    assert await run(graph, given=Input(b"\x00\x01\x02", "application/octet-stream")) == {"data": 3}


class Order(BaseModel):
    item: str
    amount: int = 1


def orders() -> StateGraph[Any]:
    graph = StateGraph(Order)
    graph.add_node("double", lambda state: {"amount": state.amount * 2})
    graph.set_entry_point("double")
    return graph


async def test_a_state_may_be_a_pydantic_model() -> None:
    assert await run(orders(), {"item": "tea"}) == {"item": "tea", "amount": 2}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"item": "tea", "amount": "many"}, "amount: Input should be a valid integer"),
        ({"amount": 2}, "item: Field required"),
        ([1, 2], "no JSON object"),
    ],
)
async def test_an_input_that_does_not_fit_is_the_callers_mistake(value: Any, said: str) -> None:
    with pytest.raises(Unprocessable, match=said) as refused:
        await run(orders(), value)
    assert refused.value.code == "input_invalid"
    assert "item, amount" in refused.value.hint


@pytest.mark.parametrize("value", [{}, {"other": 1}, None])
async def test_an_input_without_any_known_member_is_refused(value: Any) -> None:
    with pytest.raises(Unprocessable, match="none of the members"):
        await run(count(), value)


async def test_messages_that_are_none_are_the_callers_mistake() -> None:
    with pytest.raises(Unprocessable) as refused:
        await run(chat(GenericFakeChatModel(messages=iter([]))), {"messages": [1]})
    assert refused.value.code == "input_invalid"


async def test_a_function_needs_an_input() -> None:
    with pytest.raises(BadInput) as refused:
        await run(squares, given=Input(b""))
    assert refused.value.code == "input_missing"


async def test_only_what_the_output_schema_names_is_answered() -> None:
    class Total(TypedDict):
        n: int

    graph = StateGraph(Count, output_schema=Total)
    graph.add_node(plus)
    graph.set_entry_point("plus")
    assert await run(graph, {"n": 1}) == {"n": 2}
    assert ("updates", {"plus": {"n": 2, "log": ["plus at 1"]}}) in await stream(graph, {"n": 1})


async def test_a_node_finds_the_attributes_of_its_event() -> None:
    graph = StateGraph(Count)
    graph.add_node("look", lambda state, config: {"log": [config["configurable"]["event"]["type"]]})
    graph.set_entry_point("look")
    event = Input(b'{"n": 1}', attributes={"type": "com.example.counted", "source": "/test"})
    assert (await run(graph, given=event))["log"] == ["com.example.counted"]


# steps


async def test_every_node_is_a_step_with_what_it_got_and_gave() -> None:
    context = FakeRunContext()
    await run(count(), {"n": 1}, context=context)
    assert outline(context.journal_) == ["node plus succeeded", "node twice succeeded"]
    first = context.journal_.steps()[0]
    assert (first["input"], first["result"]) == (b'{"n": 1, "log": []}', b'{"n": 2, "log": ["plus at 1"]}')


async def test_nodes_of_a_graph_within_a_graph_are_steps_of_its_node() -> None:
    async def by_hand(state: Count) -> Any:
        return await count().compile().ainvoke(state)

    graph = StateGraph(Count)
    graph.add_node("inner", count().compile())
    graph.add_node("by_hand", by_hand)
    graph.add_edge(START, "inner")
    graph.add_edge("inner", "by_hand")
    context = FakeRunContext()
    await run(graph, {"n": 1}, context=context)
    inside = ["  node plus succeeded", "  node twice succeeded"]
    assert outline(context.journal_) == ["node inner succeeded", *inside, "node by_hand succeeded", *inside]


async def test_tasks_of_a_function_are_its_steps() -> None:
    context = FakeRunContext()
    await run(squares, [1, 2], context=context)
    assert outline(context.journal_) == [
        "node squares succeeded",
        "  node square succeeded",
        "  node square succeeded",
    ]


async def test_an_error_of_a_node_is_a_failed_step_and_the_runs_error() -> None:
    def broken(state: Count) -> dict[str, Any]:
        raise LookupError("no such thing")

    graph = StateGraph(Count)
    graph.add_node(broken)
    graph.set_entry_point("broken")
    context = FakeRunContext()
    with pytest.raises(LookupError, match="no such thing"):
        await run(graph, {"n": 1}, context=context)
    (step,) = context.journal_.steps()
    assert (step["state"], step["error"]) == ("failed", "no such thing")


async def test_a_node_that_goes_on_by_a_command_succeeds() -> None:
    graph = StateGraph(Count)
    graph.add_node("jump", lambda state: Command(goto="twice", update={"log": ["jumped"]}), destinations=("twice",))
    graph.add_node(twice)
    graph.set_entry_point("jump")
    context = FakeRunContext()
    assert (await run(graph, {"n": 2}, context=context))["n"] == 4
    assert outline(context.journal_) == ["node jump succeeded", "node twice succeeded"]


# models and tools


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sun in {city}"


@tool
async def population(city: str) -> int:
    """How many people live in a city."""
    return 1000 * len(city)


@tool
def broken_tool(city: str) -> str:
    """Breaks."""
    raise OSError(f"no way to {city}")


TOOLS = [weather, population, broken_tool]


def chat(model: Any) -> StateGraph[Any]:
    graph = StateGraph(MessagesState)

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph.add_node("answer", answer)
    graph.set_entry_point("answer")
    return graph


def assistant(server: ModelServer) -> StateGraph[Any]:
    """The usual agent: a model that may call tools, until it has its answer."""
    model = ChatOpenAI(model="fake-1", base_url=server.openai_url, api_key="key")  # type: ignore[arg-type]
    graph = chat(model.bind_tools(TOOLS))
    graph.add_node("tools", ToolNode(TOOLS))
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    return graph


async def test_model_and_tool_calls_are_steps_of_their_nodes(server: ModelServer) -> None:
    context = FakeRunContext()
    asked = 'use weather {"city": "Bonn"} and use population {"city": "Bonn"}'
    answer = await run(assistant(server), {"messages": asked}, context=context)
    assert answer["messages"][-1]["content"] == "The tools said: sun in Bonn; 4000"
    model = ["node answer succeeded", "  model fake-1 succeeded"]
    assert outline(context.journal_) == [
        *model,
        "node tools succeeded",
        "  tool weather succeeded",
        *model,
        "node tools succeeded",
        "  tool population succeeded",
        *model,
    ]
    call = context.journal_.steps("model")[0]
    assert (call["data"]["model"], call["data"]["input_tokens"], call["data"]["output_tokens"]) == ("fake-1", 9, 2)
    assert context.journal_.steps("tool")[0]["input"] == b'{"city": "Bonn"}'


async def test_a_tool_that_fails_is_a_failed_step(server: ModelServer) -> None:
    context = FakeRunContext()
    with pytest.raises(OSError, match="no way to Bonn"):
        await run(assistant(server), {"messages": 'use broken_tool {"city": "Bonn"}'}, context=context)
    assert outline(context.journal_)[2:] == ["node tools failed", "  tool broken_tool failed"]


async def test_a_model_that_is_not_reached_over_http_is_a_step_too() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    said = AIMessage("hello", usage_metadata=usage, response_metadata={"model_name": "parrot"})  # type: ignore[arg-type]
    context = FakeRunContext()
    await run(chat(GenericFakeChatModel(messages=iter([said]))), {"messages": "hi"}, context=context)
    assert outline(context.journal_) == ["node answer succeeded", "  model parrot succeeded"]
    data = context.journal_.steps("model")[0]["data"]
    assert data.pop("duration") > 0
    assert data == {"model": "parrot", "input_tokens": 3, "output_tokens": 2}


async def test_a_model_that_fails_is_a_failed_step() -> None:
    context = FakeRunContext()
    with pytest.raises(RuntimeError):  # it has nothing to say
        await run(chat(GenericFakeChatModel(messages=iter([]))), {"messages": "hi"}, context=context)
    assert outline(context.journal_) == ["node answer failed", "  model model failed"]


async def test_a_model_within_a_tool_is_a_step_of_the_tool(server: ModelServer) -> None:
    model = ChatOpenAI(model="fake-1", base_url=server.openai_url, api_key="key")  # type: ignore[arg-type]

    @tool
    def ask(question: str) -> str:
        """Asks another model."""
        return str(model.invoke(question).content)

    graph = StateGraph(Count)
    graph.add_node("think", lambda state: {"log": [ask.invoke({"question": "why?"})]})
    graph.set_entry_point("think")
    context = FakeRunContext()
    assert (await run(graph, {"n": 1}, context=context))["log"] == ["Echo: why?"]
    assert outline(context.journal_) == [
        "node think succeeded",
        "  tool ask succeeded",
        "    model fake-1 succeeded",
    ]


# streams


async def test_updates_values_and_what_nodes_write_are_streamed() -> None:
    emitted = await stream(count(), {"n": 1})
    assert emitted == [
        ("values", {"n": 1, "log": []}),
        ("updates", {"plus": {"n": 2, "log": ["plus at 1"]}}),
        ("values", {"n": 2, "log": ["plus at 1"]}),
        ("updates", {"twice": {"n": 4, "log": ["twice at 2"]}}),
        ("values", {"n": 4, "log": ["plus at 1", "twice at 2"]}),
    ]


async def test_tokens_are_streamed_as_they_come(server: ModelServer) -> None:
    emitted = await stream(assistant(server), {"messages": "one two three"})
    tokens = [data[0]["content"] for name, data in emitted if name == "messages"]
    assert "".join(tokens) == "Echo: one two three"
    assert len(tokens) > 3
    assert {data[1]["langgraph_node"] for name, data in emitted if name == "messages"} == {"answer"}


async def test_what_a_graph_within_a_graph_streams_names_its_node() -> None:
    graph = StateGraph(Count)
    graph.add_node("inner", count().compile())
    graph.set_entry_point("inner")
    names = [name.partition(":")[0] for name, _ in await stream(graph, {"n": 1})]
    assert "updates|inner" in names


async def test_nothing_is_emitted_for_who_did_not_ask(server: ModelServer) -> None:
    await run(assistant(server), {"messages": "hi"})
    assert not server.requests[0].body["stream"]


# sessions


async def test_a_session_remembers_what_its_runs_did(server: ModelServer) -> None:
    journal = Journal()
    for text in ("one", "two"):
        context = FakeRunContext(journal, session="talk")
        answer = await run(assistant(server), {"messages": text}, context=context)
    said = [message["content"] for message in answer["messages"]]
    assert said == ["one", "Echo: one", "two", "Echo: two"]


async def test_runs_without_a_session_know_nothing_of_each_other() -> None:
    journal = Journal()
    for _ in range(2):
        answer = await run(count(), {"n": 1}, context=FakeRunContext(journal))
    assert answer["log"] == ["plus at 1", "twice at 2"]


async def test_in_a_session_an_input_may_rest_on_what_is_there() -> None:
    journal = Journal()
    await run(orders(), {"item": "tea"}, context=FakeRunContext(journal, session="shop"))
    answer = await run(orders(), {"amount": 5}, context=FakeRunContext(journal, session="shop"))
    assert answer == {"item": "tea", "amount": 10}


async def test_a_function_gets_what_it_returned_before() -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def total(number: int, *, previous: int | None) -> int:
        return number + (previous or 0)

    journal = Journal()
    answers = [await run(total, 2, context=FakeRunContext(journal, session="sum")) for _ in range(3)]
    assert answers == [2, 4, 6]


async def test_a_memory_that_the_graph_was_compiled_with_gives_way_to_the_journal() -> None:
    memory, journal = InMemorySaver(), Journal()
    context = FakeRunContext(journal)
    await run(count().compile(checkpointer=memory), {"n": 1}, context=context)
    assert not memory.storage
    assert {thread for thread, _, _ in journal.checkpoints.rows} == {context.run}


class Database(InMemorySaver.__mro__[1]):  # type: ignore[misc]
    """A saver of the user's own: it only has to be none of ours, and no InMemorySaver."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = InMemorySaver()
        self.get_next_version = self.memory.get_next_version
        self.aget_tuple, self.aput = self.memory.aget_tuple, self.memory.aput
        self.aput_writes = self.memory.aput_writes


async def test_a_saver_of_ones_own_is_kept() -> None:
    database, journal = Database(), Journal()
    await run(count().compile(checkpointer=database), {"n": 1}, context=FakeRunContext(journal, session="mine"))
    assert list(database.memory.storage) == ["mine"]
    assert not journal.checkpoints.rows


# interrupts


class Asked(TypedDict):
    answer: str
    messages: list[AnyMessage]


async def test_a_graph_that_asks_a_person_says_so_clearly() -> None:
    graph = StateGraph(Asked)
    graph.add_node("ask", lambda state: {"answer": interrupt({"question": "Shall I?"})})
    graph.set_entry_point("ask")
    context = FakeRunContext()
    with pytest.raises(Unprocessable) as refused:
        await run(graph, {"answer": ""}, context=context)
    assert refused.value.code == "interrupted"
    assert refused.value.extra["interrupts"] == [{"question": "Shall I?"}]
    (step,) = context.journal_.steps()
    assert (step["state"], step["data"]) == ("succeeded", {"interrupted": True})


async def test_a_graph_that_is_compiled_to_stop_says_so_too() -> None:
    with pytest.raises(Unprocessable, match="compiled to") as refused:
        await run(count().compile(interrupt_before=["twice"]), {"n": 1})
    assert refused.value.code == "interrupted"


# stops


class Blocked:
    """A graph of one node that blocks until it may leave."""

    def __init__(self) -> None:
        self.entered, self.may_leave, self.has_left = threading.Event(), threading.Event(), False

    def work(self, state: Count) -> dict[str, Any]:
        self.entered.set()
        self.may_leave.wait()
        self.has_left = True
        return {"n": 1}

    def graph(self) -> StateGraph[Any]:
        graph = StateGraph(Count)
        graph.add_node("work", self.work)
        graph.set_entry_point("work")
        return graph


async def test_a_cancel_is_over_when_a_blocking_node_has_left_its_code() -> None:
    blocked, context = Blocked(), FakeRunContext()
    task = asyncio.create_task(run(blocked.graph(), {"n": 1}, context=context))
    await asyncio.to_thread(blocked.entered.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, blocked.may_leave.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert blocked.has_left
    assert outline(context.journal_) == ["node work failed"]


async def test_a_run_whose_node_fails_ends_when_those_beside_it_have_left() -> None:
    blocked = Blocked()

    def fail(state: Count) -> dict[str, Any]:
        blocked.entered.wait()
        blocked.may_leave.set()
        raise LookupError("no such thing")

    graph = blocked.graph()
    graph.add_node(fail)
    graph.add_edge(START, "fail")
    context = FakeRunContext()
    with pytest.raises(LookupError):
        await run(graph, {"n": 1}, context=context)
    assert blocked.has_left
    first, second = sorted(outline(context.journal_))
    assert first == "node fail failed"
    assert second in ("node work failed", "node work succeeded")  # as it left before or after it was told to stop


async def test_blocking_nodes_of_many_runs_work_at_the_same_time() -> None:
    """More than asyncio has threads: each waits for all."""
    together = threading.Barrier(20)
    graph = StateGraph(Count)
    graph.add_node("meet", lambda state: {"n": together.wait()})
    graph.set_entry_point("meet")
    agent = load(graph, graphs.START)
    async with asyncio.timeout(20):
        await asyncio.gather(*(agent.run(create_call({"n": 1})[0]) for _ in range(20)))
