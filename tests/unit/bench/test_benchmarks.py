"""What the benchmarks have in common with the issue's table: keys, counts, agents."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from builders import manifest
from tests.bench import agents, cold_start, deploy, idle
from tests.bench.__main__ import BENCHMARKS
from tests.bench.harness import Workspace
from tests.bench.installation import AgentFolder


def test_every_figure_of_the_table_has_a_target() -> None:
    assert {name: set(benchmark.TARGETS) for name, benchmark in BENCHMARKS.items()} == {
        "cold-start": {
            "p95_ms_plain",
            "p95_ms_langgraph",
            "p95_ms_agno",
            "p95_ms_crewai",
            "speedup_langgraph",
            "speedup_crewai",
        },
        "invoke": {"vs_sync", "vs_asgi", "added_p50_ms"},
        "deploy": {"p95_s", "unchanged_s", "first_s_langgraph", "first_s_crewai"},
        "concurrent": {"failed", "wall_s", "memory_mb"},
        "idle": {"rss_mb_one", "rss_mb_five", "cpu_percent"},
    }


def test_the_rounds_of_a_cold_start_call_every_agent_once() -> None:
    called = [call for number in range(cold_start.ROUNDS) for call in cold_start.interleaved(number)]
    assert len(called) == len(set(called))
    counts = Counter(kind for kind, _ in called)
    assert counts["plain"] >= 100
    assert counts["langgraph"] >= 100
    assert counts["agno"] >= 30
    assert counts["crewai"] >= 30


@pytest.mark.parametrize(
    "folder",
    [
        *(agents.agent(f"an-{kind}", kind, model_url="http://127.0.0.1:1") for kind in agents.CODE),
        agents.plain_agent("waiting", agents.WAITING_DEF),
        agents.agent_depending_on("depending", "crewai", "toml"),
    ],
    ids=lambda folder: folder.name,
)
def test_agents_have_a_manifest_that_the_platform_accepts(folder: AgentFolder) -> None:
    assert manifest.read(folder.files["agent.yaml"]).name == folder.name


def test_idle_agents_are_fifty_with_one_lock_or_with_five() -> None:
    for which, locks in (("one", 1), ("five", 5)):
        found = idle.wanted(which)
        assert len(found) == 50
        assert len({folder.files["pyproject.toml"].replace(folder.name, "") for folder in found}) == locks


def test_a_first_deploy_never_uses_a_choice_of_packages_twice(tmp_path: Path) -> None:
    choices = [deploy.unseen_choice(Workspace("deploy", tmp_path), "crewai") for _ in range(40)]
    assert len(set(choices)) == 40
