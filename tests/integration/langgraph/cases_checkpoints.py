"""The journal is a LangGraph checkpointer: the public conformance suite, and what the suite does not ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_config, generate_metadata

from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.langgraph_checkpoints import JournalSaver
from tests.fakes.run_context import FakeRunContext, Journal, create_call


@pytest.fixture
async def journal() -> Journal:
    return Journal()


@pytest.fixture
async def saver(journal: Journal) -> AsyncIterator[JournalSaver]:
    call, _ = create_call(run=FakeRunContext(journal))
    with running(call) as active:
        yield JournalSaver(active)


@pytest.mark.parametrize("capability", ["put", "put_writes", "get_tuple", "list", "delete_thread", "copy_thread"])
async def test_it_passes_the_public_suite(saver: JournalSaver, capability: str) -> None:
    @checkpointer_test(name="JournalSaver")
    async def create() -> AsyncIterator[JournalSaver]:
        yield saver

    report = await validate(create, capabilities={capability})
    assert report.results[capability].failures == []
    assert report.results[capability].passed


async def test_a_growing_list_is_stored_by_its_elements(saver: JournalSaver, journal: Journal) -> None:
    messages: list[Any] = []
    version = None
    config = generate_config("thread")
    for turn in range(20):
        messages = [*messages, HumanMessage(f"question {turn}"), AIMessage("answer " * 200 + str(turn))]
        version = saver.get_next_version(version, None)
        checkpoint = generate_checkpoint(channel_values={"messages": messages}, channel_versions={"messages": version})
        config = await saver.aput(config, checkpoint, generate_metadata(), {"messages": version})
    stored = {element for value in journal.checkpoints.values.values() for element in value["elements"]}
    assert len(stored) == len(messages)
    found = await saver.aget_tuple(generate_config("thread"))
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"] == messages


async def test_the_projection_of_a_growing_list_does_not_grow_with_it(saver: JournalSaver, journal: Journal) -> None:
    sizes = []
    for length in (100, 1000):
        checkpoint = generate_checkpoint(channel_values={"messages": [HumanMessage("hello")] * length})
        await saver.aput(generate_config("thread"), checkpoint, generate_metadata(), {"messages": str(length)})
        sizes.append(len(repr(journal.checkpoints.rows["thread", "", checkpoint["id"]]["projection"])))
    assert sizes[1] - sizes[0] <= 1  # a digit of the count


async def test_versions_grow_and_never_meet(saver: JournalSaver) -> None:
    one, other = saver.get_next_version(None, None), saver.get_next_version(None, None)
    assert one != other
    versions = [saver.get_next_version(None, None)]
    for _ in range(200):
        versions.append(saver.get_next_version(versions[-1], None))
    assert versions == sorted(versions)
    assert saver.get_next_version(9, None).startswith("0000000010.")  # after one that another saver gave


@dataclass
class Odd:
    """A value that LangGraph's serializer knows."""

    number: int


async def test_values_of_any_kind_come_back_equal(saver: JournalSaver) -> None:
    values = {
        "none": None,
        "bytes": b"\x00\xff",
        "empty list": [],
        "text": "text",
        "tuple": ("a", 200, {"b": 1}),
        "set": {1, 2},
        "object": Odd(3),
        "list of anything": [1, None, b"x", {"a": [1]}, Odd(4)],
        "function": len,
    }
    versions = dict.fromkeys(values, "1")
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    stored = await saver.aput(generate_config(), checkpoint, generate_metadata(), versions)
    found = await saver.aget_tuple(stored)
    assert found is not None
    assert found.checkpoint["channel_values"] == values


async def test_blocking_code_reaches_it_from_any_thread(saver: JournalSaver) -> None:
    def work() -> tuple[Any, int]:
        config = saver.put(generate_config("thread"), generate_checkpoint(), generate_metadata(), {})
        saver.put_writes(config, [("channel", "value")], "task")
        saver.copy_thread("thread", "other")
        found = saver.get_tuple(generate_config("other"))
        saver.delete_thread("other")
        return found, len(list(saver.list(None)))

    found, left = await asyncio.to_thread(work)
    assert found.pending_writes == [("task", "channel", "value")]
    assert left == 1


async def test_an_event_loop_of_a_thread_reaches_it_too(saver: JournalSaver) -> None:
    async def work() -> Any:
        config = await saver.aput(generate_config("thread"), generate_checkpoint(), generate_metadata(), {})
        return await saver.aget_tuple(config)

    assert await asyncio.to_thread(asyncio.run, work()) is not None


async def test_blocking_in_the_event_loop_is_refused_with_the_reason(saver: JournalSaver) -> None:
    with pytest.raises(RuntimeError, match="would stop the event loop"):
        saver.get_tuple(generate_config("thread"))
