"""The triage template: its verdicts on its own samples, and each of its rules."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import orchestrator_runtime
from tests.fakes.run_context import FakeRunContext, Journal
from tests.integration.langgraph.graphs import outline, run

FOLDER = Path(orchestrator_runtime.__file__).parent / "templates" / "langgraph"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("template_langgraph_agent", FOLDER / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # LangGraph looks up the types of its state
    spec.loader.exec_module(module)
    return module


def sample(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def payload(title: str, body: str | None = None, *, action: str = "opened", **issue: Any) -> Any:
    return {"action": action, "issue": {"number": 1, "title": title, "body": body, **issue}}


async def triage(agent: ModuleType, value: Any, context: FakeRunContext | None = None) -> Any:
    return (await run(agent.graph, value, context=context))["triage"]


async def test_it_triages_its_sample(agent: ModuleType) -> None:
    context = FakeRunContext()
    verdict = await triage(agent, sample("issue.json"), context)
    assert verdict["labels"] == ["bug", "area: storage", "area: cli", "priority: critical", "needs information"]
    assert verdict["because"] == ["data is lost", "it crashes", "it is a regression", "7 people voted for it"]
    assert verdict["missing"] == ["your operating system"]
    assert verdict["reply"].startswith("Thank you for the report, @maraklein.")
    rules = sorted(outline(context.journal_)[:-1])
    assert rules == [f"node find_{what} succeeded" for what in ("areas", "duplicates", "kind", "missing", "urgency")]
    assert outline(context.journal_)[-1] == "node decide succeeded"


async def test_in_a_session_it_finds_what_was_reported_before(agent: ModuleType) -> None:
    journal = Journal()
    first = await triage(agent, sample("issue.json"), FakeRunContext(journal, session="kettle"))
    second = await triage(agent, sample("similar.json"), FakeRunContext(journal, session="kettle"))
    assert first["duplicates"] == []
    assert [known["number"] for known in second["duplicates"]] == [481]
    assert "possible duplicate" in second["labels"]
    assert "- #481 Export crashes" in second["reply"]


async def test_an_issue_is_no_duplicate_of_itself_and_none_of_another_matter(agent: ModuleType) -> None:
    journal = Journal()
    for value in (
        sample("issue.json"),
        payload("Dark mode for the settings page", "The settings page stays white at night."),
        {**sample("issue.json"), "action": "edited"},
    ):
        verdict = await triage(agent, value, FakeRunContext(journal, session="kettle"))
        assert verdict["duplicates"] == []


@pytest.mark.parametrize(
    ("title", "body", "kind"),
    [
        ("TypeError when the list is empty", "It fails with a traceback", "bug"),
        ("Feature request: support for TOML", None, "feature"),
        ("How do I change the port?", None, "question"),
        ("Typo in the tutorial", None, "documentation"),
        ("Start is slow", "It takes minutes until the first page comes", "performance"),
        ("XSS in comments", "A vulnerability: scripts in comments are run", "security"),
        ("Hello", None, "question"),
    ],
)
async def test_the_kind_of_an_issue(agent: ModuleType, title: str, body: str | None, kind: str) -> None:
    assert (await triage(agent, payload(title, body)))["labels"][0] == kind


@pytest.mark.parametrize(
    ("title", "body", "level"),
    [
        ("Crash on start", "Since the upgrade, production is down for all users", "critical"),
        ("Crash on start", "It worked before. There is a workaround", "high"),
        ("Wrong colour of a broken icon", None, "normal"),
        ("Would be nice to have an icon", None, "low"),
        ("How do I restart it? Production is down for days, all users are blocked", None, "normal"),
    ],
)
async def test_the_priority_of_an_issue(agent: ModuleType, title: str, body: str | None, level: str) -> None:
    assert f"priority: {level}" in (await triage(agent, payload(title, body)))["labels"]


async def test_only_a_bug_is_asked_for_what_it_lacks(agent: ModuleType) -> None:
    assert (await triage(agent, payload("It is broken")))["missing"] == list(agent.NEEDED)
    assert (await triage(agent, payload("How do I start it?")))["missing"] == []


async def test_what_is_quoted_or_hidden_in_a_comment_does_not_count(agent: ModuleType) -> None:
    body = "<!-- Describe the crash,\nthe error and the traceback -->\n> it crashes with an error\n\nPlease add a flag"
    assert (await triage(agent, payload("Proposal", body)))["labels"][0] == "feature"


@pytest.mark.parametrize(
    "value",
    [
        payload("Closed", action="closed"),
        payload("Bump requests", user={"login": "updates[bot]", "type": "Bot"}),
        payload("A change", pull_request={"url": "https://api.github.com/repos/a/b/pulls/1"}),
    ],
)
async def test_what_is_not_for_it_is_skipped(agent: ModuleType, value: Any) -> None:
    assert "skipped" in await triage(agent, value)
