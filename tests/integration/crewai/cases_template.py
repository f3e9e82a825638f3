"""The crewai template as a running crew. Runs in CrewAI's own environment."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator_runtime
from orchestrator_runtime.contract.errors import Unprocessable
from orchestrator_runtime.frameworks import crewai as adapter
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, create_call
from tests.fakes.starts import create_start

FOLDER = Path(orchestrator_runtime.__file__).parent / "templates" / "crewai"
SAMPLE = json.loads((FOLDER / "input.json").read_text())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as running:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("MODEL", "fake-1")
        yield running


@pytest.fixture
def module(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("template_crewai_agent", FOLDER / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where annotations are looked up
    spec.loader.exec_module(module)
    return module


async def run(module: Any, value: Any, context: FakeRunContext | None = None) -> str:
    call, _ = create_call(value, run=context)
    answer = await adapter.load(module.crew, create_start("crewai")).run(call)
    return answer.body.decode()


async def test_it_works_on_its_sample(module: Any, server: ModelServer) -> None:
    context = FakeRunContext()
    said = await run(module, SAMPLE, context)
    assert "Write the post-mortem of the incident of the checkout API" in said
    first, second = server.requests
    assert "09:55 tax service p99 rises" in str(first.body["messages"])
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["elapsed"]
    assert "tools" not in second.body
    steps = [(step["kind"], step["name"]) for step in context.journal_.steps()]
    assert steps == [
        ("node", "Post-mortem"),
        ("node", "investigate"),
        ("agent", "Incident investigator"),
        ("model", "fake-1"),
        ("node", "write"),
        ("agent", "Post-mortem author"),
        ("model", "fake-1"),
    ]


async def test_its_investigator_measures_with_a_tool(module: Any) -> None:
    context = FakeRunContext()
    notes = 'Deploy at 09:42, over at 11:05. use elapsed {"start": "09:42", "end": "11:05"}'
    await run(module, {**SAMPLE, "notes": notes}, context)
    (step,) = context.journal_.steps("tool")
    assert json.loads(step["result"]) == {"value": "83 minutes (1 h 23 min)"}


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        ("09:42", "11:05", "83 minutes (1 h 23 min)"),
        ("23:50", "0:10", "20 minutes (0 h 20 min)"),
        ("2026-03-01 23:00", "2026-03-03T01:30", "1590 minutes (26 h 30 min)"),
    ],
)
def test_elapsed_counts_over_midnight(module: Any, start: str, end: str, minutes: str) -> None:
    assert module.elapsed.run(start=start, end=end) == minutes


def test_elapsed_refuses_what_is_no_time(module: Any) -> None:
    with pytest.raises(ValueError, match="'soon' has no time"):
        module.elapsed.run(start="soon", end="11:05")


async def test_missing_notes_are_named(module: Any) -> None:
    with pytest.raises(Unprocessable, match="The crew needs notes"):
        await run(module, {"service": "mail"})
