"""Listing, describing and deleting agents; traffic and rollback."""

from __future__ import annotations

import pytest

from tests.fakes.api_server import FakePlatform, create_agent, create_revision
from tests.unit.cli.conftest import Orchestrator


@pytest.fixture(autouse=True)
def triage(platform: FakePlatform) -> None:
    platform.agents["triage"] = create_agent("triage")


def test_agents_are_listed_as_a_table(orchestrator: Orchestrator) -> None:
    [heading, row] = orchestrator("ls").out.splitlines()
    assert heading.split() == ["NAME", "VERSION", "FRAMEWORK", "STATE", "UPDATED", "URL"]
    assert row.split()[:4] == ["triage", "0.1.0", "plain", "idle"]


def test_every_page_of_a_list_is_read(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.agents = {f"a{number}": create_agent(f"a{number}") for number in range(450)}
    assert len(orchestrator("ls", "-o", "json").json()["items"]) == 450
    assert [request.query.get("cursor") for request in platform.asked("GET /api/v1/agents")] == [None, "200", "400"]


def test_a_description_shows_revisions_traffic_and_protections(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    failed = {**create_revision("triage", 2), "state": "failed", "problem": {"detail": "It exits"}}
    platform.agents["triage"]["revisions"] = [failed, create_revision("triage", 1)]
    said = orchestrator("describe", "triage").out
    assert "traffic      triage-00001 100 %" in said
    assert "protections  all in force" in said
    assert "It exits" in said
    described = orchestrator("describe", "triage", "-o", "json").json()
    assert [revision["name"] for revision in described["revisions"]] == ["triage-00002", "triage-00001"]


def test_an_agent_that_never_served_has_no_version(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.agents["triage"] = create_agent("triage", state="failed", version=None, digest=None)
    assert "None" not in orchestrator("describe", "triage").out


def test_why_the_last_deployment_failed_is_part_of_the_description(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    assert "last deployment" not in orchestrator("describe", "triage").out
    problem = {"code": "dependencies_unresolvable", "detail": "There is no package lngchain"}
    platform.agents["triage"]["deployment"] = {"state": "failed", "problem": problem}
    said = orchestrator("describe", "triage").out
    assert "last deployment  failed: There is no package lngchain (dependencies_unresolvable)" in said
    assert orchestrator("describe", "triage", "-o", "json").json()["deployment"]["problem"] == problem


def test_a_missing_protection_is_spelled_out(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    found = {"namespaces": "in force", "own host uid": "missing: not root"}
    platform.agents["triage"]["revisions"][0]["protections"] = found
    assert "protections  own host uid missing: not root\n" in orchestrator("describe", "triage").out


def test_deleting_needs_a_yes(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    assert orchestrator("delete", "triage").code == 2
    assert "triage" in platform.agents
    assert orchestrator("delete", "triage", "--yes").out == "Deleted triage\n"
    assert platform.agents == {}


def test_a_name_is_one_segment_of_the_path_whatever_was_typed(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    orchestrator("describe", "../runs")
    assert [request.path for request in platform.received] == ["/api/v1/agents/..%2Fruns"]


def test_traffic_is_split_by_revision_number_or_name(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    said = orchestrator("traffic", "triage", "1=90", "triage-00002=10", "--tag", "canary=2", "--tag", "old=7")
    assert platform.asked("PUT /api/v1/agents/triage/traffic")[0].json() == {
        "targets": [
            {"revision": "triage-00001", "percent": 90, "tag": None},
            {"revision": "triage-00002", "percent": 10, "tag": "canary"},
            {"revision": "triage-00007", "percent": 0, "tag": "old"},
        ]
    }
    assert said.out.startswith("triage serves triage-00001 90 %, triage-00002 10 % (tag canary)")


def test_a_tag_alone_leaves_the_split_as_it_is(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    orchestrator("traffic", "triage", "--tag", "stable=1")
    assert platform.agents["triage"]["traffic"] == [{"revision": "triage-00001", "percent": 100, "tag": "stable"}]


def test_traffic_without_shares_shows_the_split(orchestrator: Orchestrator) -> None:
    assert orchestrator("traffic", "triage").out == "triage serves triage-00001 100 %\n"


@pytest.mark.parametrize("share", ["1", "1=x", "=5", "1=-5"])
def test_a_share_that_is_none_is_a_usage_error(orchestrator: Orchestrator, share: str) -> None:
    assert orchestrator("traffic", "triage", share).code == 2


def test_a_tag_that_is_none_is_a_usage_error(orchestrator: Orchestrator) -> None:
    assert orchestrator("traffic", "triage", "1=100", "--tag", "canary").code == 2


def test_rollback_goes_to_the_one_before_or_to_the_one_named(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    assert orchestrator("rollback", "triage").out == "triage now serves triage-00001 100 %\n"
    assert orchestrator("rollback", "triage", "4").out == "triage now serves triage-00004 100 %\n"
    bodies = [request.json() for request in platform.asked("POST /api/v1/agents/triage/rollback")]
    assert bodies == [{}, {"revision": "triage-00004"}]
