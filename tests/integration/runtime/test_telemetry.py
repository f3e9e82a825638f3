"""Spans of runs and steps, as a collector gets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orchestrator_runtime import Run
from orchestrator_runtime.contract.states import StepKind
from orchestrator_runtime.frameworks.current import current
from tests.integration.runtime.world import create_world

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An OTLP collector: its endpoint, and the spans it gets."""
    spans: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/json"
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for resource in body["resourceSpans"]:
                described = _plain(resource["resource"])
                for scope in resource["scopeSpans"]:
                    spans.extend({**span, "service": described["service.name"]} for span in scope["spans"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", spans
        finally:
            server.shutdown()
            thread.join()


def _plain(holder: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in holder["attributes"]}


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


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


async def test_a_run_continues_its_caller_s_trace_and_its_steps_are_below_it() -> None:
    with collector() as (endpoint, spans):
        settings = {"otlp_endpoint": endpoint, "trace_sample_ratio": 0.0}
        async with create_world(handle, settings=settings) as world:
            await world.call(1, traceparent=f"00-{TRACE}-{PARENT}-01", orchestrator_run_id="r-1")
            await world.call(1)  # no trace, and none begins
        named = {span["name"]: span for span in spans}
        assert len(spans) == 4
        run, agent, model = named["echo"], named["agent"], named["gpt"]
        assert {span["traceId"] for span in spans} == {TRACE}
        assert (run["parentSpanId"], run["kind"], run["service"]) == (PARENT, 2, "echo")
        assert agent["parentSpanId"] == named["left"]["parentSpanId"] == run["spanId"]
        assert model["parentSpanId"] == agent["spanId"]
        assert int(run["startTimeUnixNano"]) <= int(model["startTimeUnixNano"]) <= int(run["endTimeUnixNano"])
        assert _plain(run) == {
            "orchestrator.run": "r-1",
            "orchestrator.run.attempt": "1",
            "http.response.status_code": "200",
        }
        assert _plain(model).items() >= {"gen_ai.request.model": "gpt-x", "gen_ai.usage.input_tokens": "3"}.items()
        assert agent["status"] == {"code": 2, "message": "ValueError"}
        assert "status" not in run


async def test_a_later_attempt_continues_its_caller_s_trace() -> None:
    with collector() as (endpoint, spans):
        settings = {"otlp_endpoint": endpoint, "trace_sample_ratio": 0.0}
        async with create_world(handle, settings=settings) as world:
            traced = {"traceparent": f"00-{TRACE}-{PARENT}-01", "orchestrator_run_id": "r-1"}
            await world.call("fail", **traced)
            world.journal.retry("r-1")
            await world.call(orchestrator_dispatch="1", **traced)
        runs = [span for span in spans if span["name"] == "echo"]
        assert [(span["traceId"], span["parentSpanId"]) for span in runs] == [(TRACE, PARENT)] * 2
        assert [_plain(span)["orchestrator.run.attempt"] for span in runs] == ["1", "2"]


async def test_a_failed_run_is_a_failed_span_of_a_trace_of_its_own() -> None:
    with collector() as (endpoint, spans):
        settings = {"otlp_endpoint": endpoint, "trace_sample_ratio": 1.0}
        async with create_world(handle, settings=settings) as world:
            await world.call("fail", traceparent="nonsense")
            await world.call(1, traceparent=f"00-{TRACE}-{PARENT}-00")  # its caller does not want it
        [run] = [span for span in spans if span["name"] == "echo"]
        assert run["status"] == {"code": 2, "message": "agent_failed"}
        assert "parentSpanId" not in run
        assert len({span["traceId"] for span in spans}) == 1


async def test_a_collector_that_is_away_costs_nothing() -> None:
    settings = {"otlp_endpoint": "http://127.0.0.1:1", "trace_sample_ratio": 1.0}
    async with create_world(handle, settings=settings) as world:
        assert (await world.call(1)).json() == 1
