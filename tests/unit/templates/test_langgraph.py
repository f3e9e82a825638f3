"""The langgraph template as a folder; tests/integration/langgraph tests what its graph does, where LangGraph is."""

from __future__ import annotations

import json

import pytest

from builders.dependencies import read as read_dependencies
from builders.manifest import read
from control_api.cli.new import TEMPLATES

FOLDER = TEMPLATES / "langgraph"


def test_its_manifest_is_valid() -> None:
    manifest = read((FOLDER / "agent.yaml").read_text())
    assert (manifest.framework, manifest.entrypoint) == ("langgraph", "agent:graph")


def test_it_depends_on_langgraph_alone() -> None:
    assert read_dependencies(str(FOLDER)).requirements == ("langgraph>=1.0",)


@pytest.mark.parametrize("name", ["issue.json", "similar.json"])
def test_its_samples_are_payloads_of_githubs_issues_webhook(name: str) -> None:
    payload = json.loads((FOLDER / name).read_text())
    assert {"action", "issue", "repository", "sender"} <= payload.keys()
    assert {"number", "title", "body", "user", "labels", "author_association", "reactions"} <= payload["issue"].keys()
    assert payload["issue"]["html_url"].startswith(payload["repository"]["html_url"])
