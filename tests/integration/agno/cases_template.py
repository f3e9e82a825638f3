"""The agno template as a running agent. Runs in Agno's own environment."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestrator_runtime
from orchestrator_runtime.frameworks import agno as adapter
from orchestrator_runtime.frameworks.adapter import Input
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import FakeRunContext, Journal, create_call
from tests.fakes.starts import create_start

FOLDER = Path(orchestrator_runtime.__file__).parent / "templates" / "agno"
SAMPLE = json.loads((FOLDER / "input.json").read_text())
LOSS = (
    "SELECT station, first.riders - last.riders AS loss FROM data AS first JOIN data AS last USING (station) "
    "WHERE first.month = '2026-01' AND last.month = '2026-03' ORDER BY loss DESC LIMIT 1"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as running:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
        monkeypatch.setenv("MODEL", "fake-1")
        yield running


@pytest.fixture
def module(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("template_agno_agent", FOLDER / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where annotations are looked up
    spec.loader.exec_module(module)
    return module


async def ask(module: Any, value: Any = None, *, run: FakeRunContext | None = None, given: Input | None = None) -> str:
    call, _ = create_call(value, run=run, given=given)
    answer = await adapter.load(module.agent, create_start("agno")).run(call)
    return answer.body.decode()


async def test_it_works_on_its_sample(module: Any, server: ModelServer) -> None:
    assert await ask(module, SAMPLE) == f"Echo: {SAMPLE['message']}"
    assert server.requests[0].body["model"] == "fake-1"
    assert {tool["function"]["name"] for tool in server.requests[0].body["tools"]} == {"describe", "query"}
    assert "Harbour" not in str(server.requests[0].body)  # the table is for the tools


async def test_its_tools_describe_and_query_the_sample(module: Any) -> None:
    message = f"use describe {{}} use query {json.dumps({'sql': LOSS})}"
    context = FakeRunContext()
    said = await ask(module, {**SAMPLE, "message": message}, run=context)
    assert '"columns": ["month", "station", "riders", "delays"], "rows": 12' in said
    assert said.endswith('{"columns": ["station", "loss"], "rows": [["Airport", 9150]]}')
    assert [step["name"] for step in context.journal_.steps("tool")] == ["describe", "query"]


async def test_a_file_is_a_table_and_a_session_remembers_it(module: Any) -> None:
    journal = Journal()
    body = "name;size\nsmall;1.5\nlarge;20\n,\n".encode("utf-8-sig")
    given = Input(body=body, content_type="text/csv", query="message=use+describe+{}")
    said = await ask(module, run=FakeRunContext(journal, session="s"), given=given)
    assert '"columns": ["name", "size"]' in said
    again = 'use query {"sql": "SELECT max(size) FROM data"}'
    assert "[[20]]" in await ask(module, again, run=FakeRunContext(journal, session="s"))


async def test_a_question_without_a_table_is_told_so(module: Any) -> None:
    assert "there is no table" in await ask(module, "use describe {}")


@pytest.mark.parametrize(
    "sql", ["DELETE FROM data", "ATTACH 'x.db' AS x", "SELECT nothing FROM data", "PRAGMA user_version"]
)
async def test_only_questions_are_allowed_and_mistakes_are_told(module: Any, sql: str) -> None:
    said = await ask(module, {**SAMPLE, "message": f"use query {json.dumps({'sql': sql})}"})
    assert "SQLite refused it" in said
