"""Spans of runs and steps, as the server gets them."""

from __future__ import annotations

from typing import Any

from orchestrator_runtime import Run
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.spans import SERVER
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.current import current
from tests.integration.runtime.world import create_world

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def handle(given: Any, run: Run) -> Any:
    active = current()
    assert active is not None
    outer = active.run.start_step("agent", StepKind.AGENT)
    model = active.run.start_step("gpt", StepKind.MODEL, parent=outer.id)
    await model.succeed(None, model="gpt-x", input_tokens=3, share=0.5)
    await outer.fail(ValueError("no"))
    active.run.start_step("left", StepKind.TOOL)
    if given == "fail":
        raise ValueError
    return given


async def test_a_run_continues_its_caller_s_trace_and_its_steps_are_below_it() -> None:
    async with create_world(handle, settings={"trace_sample_ratio": 0.0}) as world:
        await world.call(1, traceparent=f"00-{TRACE}-{PARENT}-01", orchestrator_run_id="r-1")
        await world.call(1)  # no trace, and none begins
    named = {span.name: span for span in world.journal.spans}
    assert len(world.journal.spans) == 4
    run, agent, model = named["echo"], named["agent"], named["gpt"]
    assert {span.trace for span in named.values()} == {TRACE}
    assert (run.parent, run.kind) == (PARENT, SERVER)
    assert agent.parent == named["left"].parent == run.id
    assert model.parent == agent.id
    assert run.began <= model.began <= run.ended
    assert run.attributes == {
        "orchestrator.run": "r-1",
        "orchestrator.run.attempt": 1,
        "http.response.status_code": 200,
    }
    assert model.attributes.items() >= {"gen_ai.request.model": "gpt-x", "gen_ai.usage.input_tokens": 3}.items()
    assert agent.error == "ValueError"
    assert run.error is None


async def test_a_later_attempt_continues_its_caller_s_trace() -> None:
    async with create_world(handle, settings={"trace_sample_ratio": 0.0}) as world:
        traced = {"traceparent": f"00-{TRACE}-{PARENT}-01", "orchestrator_run_id": "r-1"}
        await world.call("fail", **traced)
        world.journal.retry("r-1")
        await world.call(orchestrator_dispatch="1", **traced)
    runs = [span for span in world.journal.spans if span.name == "echo"]
    assert [(span.trace, span.parent) for span in runs] == [(TRACE, PARENT)] * 2
    assert [span.attributes["orchestrator.run.attempt"] for span in runs] == [1, 2]


async def test_a_failed_run_is_a_failed_span_of_a_trace_of_its_own() -> None:
    async with create_world(handle, settings={"trace_sample_ratio": 1.0}) as world:
        await world.call("fail", traceparent="nonsense")
        await world.call(1, traceparent=f"00-{TRACE}-{PARENT}-00")  # its caller does not want it
    [run] = [span for span in world.journal.spans if span.name == "echo"]
    assert (run.error, run.parent) == ("agent_failed", "")
    assert len({span.trace for span in world.journal.spans}) == 1


async def test_without_a_collector_nothing_is_traced() -> None:
    async with create_world(handle) as world:
        await world.call(1, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert world.journal.spans == []


async def test_a_server_that_takes_no_spans_costs_a_run_nothing() -> None:
    async with create_world(handle, settings={"trace_sample_ratio": 1.0}) as world:
        world.journal.refusals["spans"] = Unavailable("not now", code="journal_busy")
        assert (await world.call(1)).json() == 1
    assert world.journal.spans == []
