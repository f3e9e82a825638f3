"""A process that dies at any point: the next attempt goes on where it was, and repeats nothing that is recorded.

Every case forks a child that ends itself, as a kill would, right before or right after the n-th thing that it makes
durable; the journal is a file. What nodes and tools really did is counted in another file.
"""

from __future__ import annotations

import asyncio
import gc
import json
import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal
from tests.integration.langgraph.graphs import run

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
KILLED, FINISHED = 9, 0
BOTH = (True, False)
PATIENCE = 60  # seconds until a child that hangs fails its test


class Doomed:
    """A journal in a file, in whose `dies_at`-th commit the process ends: `before` it is written, or after."""

    def __init__(self, path: Path, *, dies_at: int, before: bool) -> None:
        self.journal = Journal.open(path)
        self._left, self._before = dies_at, before
        commit = self.journal.commit

        def last_words() -> None:
            self._left -= 1
            if self._left == 0 and self._before:
                os._exit(KILLED)
            del self.journal.commit  # type: ignore[method-assign]  # it is written without its fate
            commit()
            self.journal.commit = last_words  # type: ignore[method-assign]
            if self._left == 0:
                os._exit(KILLED)

        self.journal.commit = last_words  # type: ignore[method-assign]


class World:
    """A journal, and what has really happened."""

    def __init__(self, folder: Path) -> None:
        self.path, self._did = folder / "journal", folder / "did"

    def did(self, what: str) -> None:
        with self._did.open("a") as file:
            file.write(f"{what}\n")

    def effects(self) -> list[str]:
        return self._did.read_text().splitlines() if self._did.exists() else []

    def attempt(self, graph: Any, value: Any, *, number: int, dies_at: int, before: bool = False) -> int:
        """One attempt in a process of its own; how it ended."""
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            sys.settrace(None)  # a child that ends like this cannot be measured, and measuring may block it
            threading.settrace(None)  # type: ignore[arg-type]
            try:
                journal = Doomed(self.path, dies_at=dies_at, before=before).journal
                context = FakeRunContext(journal, run=RUN, attempt=number)
                answer = asyncio.run(run(graph, value, context=context))
                self.path.with_suffix(".answer").write_text(json.dumps(answer))
                os._exit(FINISHED)
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def answer(self) -> Any:
        return json.loads(self.path.with_suffix(".answer").read_text())

    def finished_nodes(self) -> list[str]:
        """Nodes whose end is in the newest checkpoint, by what they left in `log`."""
        checkpoints = Journal.open(self.path).checkpoints
        newest = max((key for key in checkpoints.rows if key[1] == ""), default=None)
        return [] if newest is None else list(checkpoints.rows[newest]["projection"].get("log", []))


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], World]:
    def create(name: str) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name)

    return create


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


def all_deaths(
    world: Callable[[str], World],
    create: Callable[[World], Any],
    value: Any,
    *,
    befores: Sequence[bool] = BOTH,
) -> Iterator[World]:
    """The worlds in which the first attempt died at its first, second, … commit, before it was written and after."""
    gc.freeze()  # so that children copy less
    for before in befores:
        for dies_at in range(1, 200):
            here = world(f"{before}-{dies_at}")
            ended = here.attempt(create(here), value, number=1, dies_at=dies_at, before=before)
            if ended == FINISHED:
                assert dies_at > 5
                break
            assert ended == KILLED
            yield here
        else:
            pytest.fail("it never came to its end")


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def line(world: World) -> StateGraph[Any]:
    """Three nodes, one after the other; the second is asynchronous."""

    def node(name: str) -> Callable[[State], Any]:
        def work(state: State) -> dict[str, Any]:
            world.did(name)
            return {"log": [name]}

        async def asynchronous(state: State) -> dict[str, Any]:
            return work(state)

        return asynchronous if name == "b" else work

    graph = StateGraph(State)
    for before, name in zip((START, "a", "b"), "abc", strict=True):
        graph.add_node(name, node(name))
        graph.add_edge(before, name)
    graph.add_edge("c", END)
    return graph


def test_nodes_that_finished_do_not_run_again(world: Callable[[str], World]) -> None:
    for here in all_deaths(world, line, {"log": ["start"]}):
        done, finished = here.effects(), [name for name in here.finished_nodes() if name != "start"]
        assert here.attempt(line(here), {"log": ["start"]}, number=2, dies_at=0) == FINISHED
        assert here.answer() == {"log": ["start", "a", "b", "c"]}
        again = here.effects()[len(done) :]
        assert not set(again) & set(finished)
        assert "abc".endswith("".join(again))
        assert set(done) & set(again) <= set(done[-1:])  # only the last one can have been in flight


def test_a_run_may_die_again_and_again(world: Callable[[str], World]) -> None:
    here = world("often")
    ends = [here.attempt(line(here), {"log": []}, number=number, dies_at=6) for number in range(1, 10)]
    assert ends.index(FINISHED) > 2
    assert here.answer() == {"log": ["a", "b", "c"]}


def test_tasks_of_a_function_that_finished_do_not_run_again(world: Callable[[str], World]) -> None:
    def create(here: World) -> Any:
        @task
        def double(number: int) -> int:
            here.did(f"double {number}")
            return 2 * number

        @entrypoint()
        async def doubled(numbers: list[int]) -> list[int]:
            return [await double(number) for number in numbers]

        return doubled

    repeated = 0
    for here in all_deaths(world, create, [1, 2, 3]):
        done = here.effects()
        assert here.attempt(create(here), [1, 2, 3], number=2, dies_at=0) == FINISHED
        assert here.answer() == [2, 4, 6]
        again = here.effects()[len(done) :]
        assert set(done) & set(again) <= set(done[-1:])  # only the last one can have been in flight
        repeated += len(done) + len(again) > 3
    assert repeated  # in some world it was


def test_model_and_tool_calls_that_are_recorded_are_not_made_again(
    world: Callable[[str], World], server: ModelServer
) -> None:
    """Also not within a node that is repeated: the answers come from the journal."""
    model = ChatOpenAI(model="fake-1", base_url=server.openai_url, api_key="key")  # type: ignore[arg-type]

    def create(here: World) -> Any:
        @tool
        def send(text: str) -> str:
            """Sends a letter."""
            here.did(f"send {text}")
            return f"sent {text}"

        graph = StateGraph(MessagesState)
        answer = model.bind_tools([send])
        graph.add_node("answer", lambda state: {"messages": [answer.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode([send]))
        graph.add_edge(START, "answer")
        graph.add_conditional_edges("answer", tools_condition)
        graph.add_edge("tools", "answer")
        return graph

    value = {"messages": 'use send {"text": "A"}'}
    for here in all_deaths(world, create, value, befores=[True]):
        recorded = {call[1].partition("@")[0] + call[2] + str(call[3]) for call in Journal.open(here.path).calls}
        before = len(server.requests), here.effects()
        assert here.attempt(create(here), value, number=2, dies_at=0) == FINISHED
        assert here.answer()["messages"][-1]["content"] == "The tools said: sent A"
        calls = Journal.open(here.path).calls
        live = len(server.requests) - before[0] + len(here.effects()) - len(before[1])
        assert live == len(calls) - len(recorded)
        assert len(calls) == 3


def test_two_branches_each_keep_what_they_finished(world: Callable[[str], World]) -> None:
    def create(here: World) -> Any:
        def left(state: State) -> dict[str, Any]:
            here.did("left")
            return {"log": ["left"]}

        async def right(state: State) -> dict[str, Any]:
            while "left" not in _written(here):
                await asyncio.sleep(0)
            here.did("right")
            return {"log": ["right"]}

        graph = StateGraph(State)
        graph.add_node(left)
        graph.add_node(right)
        graph.add_edge(START, "left")
        graph.add_edge(START, "right")
        return graph

    for here in all_deaths(world, create, {"log": []}, befores=[True]):
        done = here.effects()
        assert here.attempt(create(here), {"log": []}, number=2, dies_at=0) == FINISHED
        assert sorted(here.answer()["log"]) == ["left", "right"]
        if "right" in done:  # it began when what the left one did was durable
            assert here.effects().count("left") == 1


def _written(here: World) -> list[str]:
    """Nodes of which the journal's file holds pending writes."""
    if not here.path.exists():
        return []
    writes = Journal.open(here.path).checkpoints.writes.values()
    return ["left" for stored in writes for write in stored.values() if "left" in write["path"]]


def test_a_run_that_died_when_it_was_done_gives_its_answer(world: Callable[[str], World]) -> None:
    here = world("done")
    assert here.attempt(line(here), {"log": []}, number=1, dies_at=0) == FINISHED
    assert here.attempt(line(here), {"log": []}, number=2, dies_at=0) == FINISHED
    assert here.answer() == {"log": ["a", "b", "c"]}
    assert here.effects() == ["a", "b", "c"]
