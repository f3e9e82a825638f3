"""What the cases share: a start, a run of a graph to its end, and steps as a person would list them."""

from __future__ import annotations

import json
from typing import Any

from orchestrator_runtime.contract.instance import InstanceStart, Limits
from orchestrator_runtime.frameworks.adapter import Input
from orchestrator_runtime.frameworks.langgraph import load
from tests.fakes.run_context import FakeRunContext, Journal, create_call

START = InstanceStart(
    instance="instance",
    organization="organization",
    agent="agent",
    revision="agent-00001",
    version="digest",
    framework="langgraph",
    entrypoint="agent:graph",
    limits=Limits(memory_bytes=2**30, cpu=1),
    concurrency=10,
    timeout=60,
    grace=10,
    payload_limit=2**20,
    call_token="call",
    journal_token="journal",
)


async def run(
    graph: Any, value: Any = None, *, context: FakeRunContext | None = None, given: Input | None = None
) -> Any:
    """The decoded answer of one run."""
    call, _ = create_call(value, run=context, given=given)
    answer = await load(graph, START).run(call)
    return json.loads(answer.body) if answer.content_type == "application/json" else answer.body


async def stream(graph: Any, value: Any) -> list[tuple[str, Any]]:
    """What a run emits."""
    call, emitted = create_call(value, stream=True)
    await load(graph, START).run(call)
    return emitted


def outline(journal: Journal) -> list[str]:
    """`kind name state`, indented below the parent, in the order of the start."""
    steps = journal.steps()
    depths: dict[str | None, int] = {None: -1}
    for step in steps:
        depths[step["step"]] = depths[step["parent"]] + 1
    return [f"{'  ' * depths[step['step']]}{step['kind']} {step['name']} {step['state']}" for step in steps]
