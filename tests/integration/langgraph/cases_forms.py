"""Forms of requests and answers.

A run whose first attempt was streamed: the next one asks its models in the same form, so records answer them. And what
a graph answers that ends with parts.
"""

from __future__ import annotations

from typing import Any, TypedDict

import httpx
import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph

from orchestrator_runtime import Part
from orchestrator_runtime.frameworks import langgraph
from orchestrator_runtime.frameworks.values import split_multipart
from tests.fakes.model_server import ModelServer, model_server
from tests.integration.runtime.world import World, create_world

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"


class Drawing(TypedDict, total=False):
    title: str
    picture: Part


class Interrupted:
    """A graph of one node, whose first execution loses its run right after the model has answered."""

    def __init__(self, server: ModelServer) -> None:
        self.world: World
        self.answers: list[str] = []
        self._model = ChatOpenAI(model="fake-1", base_url=server.openai_url, api_key="key")  # type: ignore[arg-type]

    async def ask(self, state: MessagesState) -> dict[str, Any]:
        answer = await self._model.ainvoke(state["messages"])
        self.answers.append(str(answer.content))
        if len(self.answers) == 1:
            self.world.journal.lose(RUN)
        return {"messages": [answer]}

    def graph(self) -> Any:
        graph = StateGraph(MessagesState)
        graph.add_node("ask", self.ask)
        graph.add_edge(START, "ask")
        graph.add_edge("ask", END)
        return graph


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_model_that_answered_the_first_attempt_is_not_asked_by_the_second(accept: str) -> None:
    with model_server() as server:
        agent = Interrupted(server)
        async with create_world(agent.graph(), load=langgraph.load) as agent.world:
            with pytest.raises(httpx.RemoteProtocolError):  # the first attempt's caller hears no answer of it
                await agent.world.call({"messages": "one two"}, orchestrator_run_id=RUN, accept=accept)
            again = await agent.world.call(orchestrator_run_id=RUN, orchestrator_dispatch="1")
        assert again.json()["messages"][-1]["content"] == "Echo: one two"
        assert agent.answers == ["Echo: one two"] * 2
        assert [request.body["stream"] for request in server.requests] == [accept == "text/event-stream"]


async def test_a_graph_that_ends_with_a_part_answers_with_a_form() -> None:
    def draw(state: dict[str, Any]) -> dict[str, Any]:
        return {"picture": Part("", b"\x89PNG", "image/png", f"{state['title']}.png")}

    graph = StateGraph(Drawing)
    graph.add_node("draw", draw)
    graph.add_edge(START, "draw")
    graph.add_edge("draw", END)
    async with create_world(graph, load=langgraph.load) as world:
        answer = await world.call({"title": "cat"})
    title, picture = split_multipart(answer.content, answer.headers["content-type"])
    assert (title.name, title.body) == ("title", b"cat")
    assert picture == Part("picture", b"\x89PNG", "image/png", "cat.png")
