"""A folder becomes a version and a deployment; nothing is uploaded that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import bundle
from tests.fakes.api_server import FakePlatform, event_stream, json_reply
from tests.unit.cli.conftest import Orchestrator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "greeter"
    made.mkdir()
    (made / "agent.yaml").write_text("name: greeter\nentrypoint: agent:handle\n")
    (made / "agent.py").write_text("def handle(input): return input\n")
    return made


def test_a_new_folder_is_uploaded_and_deployed(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path
) -> None:
    said = orchestrator("deploy", str(folder))
    assert said.code == 0
    digest = bundle.digest(bundle.list_files(folder))
    assert said.out.startswith(f"greeter 0.1.0 ({digest[:12]}) serves after ")
    assert said.out.endswith(f" at {platform.url}/agents/greeter\n")
    assert set(platform.versions) == {digest}


def test_the_progress_shows_states_and_build_lines_on_stderr(orchestrator: Orchestrator, folder: Path) -> None:
    said = orchestrator("deploy", str(folder))
    lines = [line.split("] ")[-1].strip() for line in said.err.splitlines()]
    assert lines == [
        "Uploading",
        "Building the environment",
        "Resolved 0 packages",
        "Starting an instance",
        "Ready",
    ]


def test_an_unchanged_folder_is_neither_uploaded_nor_deployed_again(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path
) -> None:
    orchestrator("deploy", str(folder))
    said = orchestrator("deploy", str(folder), "--output", "json")
    assert said.json()["unchanged"] is True
    assert len(platform.asked("POST /api/v1/versions")) == 1
    assert "is unchanged and already serves" in orchestrator("deploy", str(folder)).out


def test_a_version_that_is_known_is_not_uploaded_again(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path
) -> None:
    orchestrator("deploy", str(folder))
    platform.serving.clear()
    assert orchestrator("deploy", str(folder)).code == 0
    assert len(platform.asked("POST /api/v1/versions")) == 1


def test_a_failed_deployment_says_why_and_is_still_data(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path
) -> None:
    failed = {
        "id": "d1",
        "agent": "greeter",
        "digest": "0" * 64,
        "version": "0.1.0",
        "state": "failed",
        "problem": {"code": "entrypoint_missing_attribute", "detail": "There is no handle", "hint": "Add it."},
    }
    for _ in range(2):
        platform.answer("POST /api/v1/deployments", json_reply(failed, 202))
    said = orchestrator("deploy", str(folder))
    assert said.code == 1
    assert said.err.endswith("error: There is no handle (entrypoint_missing_attribute)\n  → Add it.\n")
    said = orchestrator("deploy", str(folder), "--output", "json")
    assert said.code == 1
    assert said.json()["problem"]["code"] == "entrypoint_missing_attribute"
    assert json.loads(said.err.splitlines()[-1])["code"] == "entrypoint_missing_attribute"


def test_a_deployment_that_printed_something_says_how_to_see_it(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path
) -> None:
    problem = {"code": "entrypoint_not_importable", "detail": "no", "log": ["Traceback"]}
    failed = {"agent": "greeter", "revision": "greeter-00002", "state": "failed", "id": "d1", "problem": problem}
    platform.answer("POST /api/v1/deployments", json_reply(failed, 202))
    said = orchestrator("deploy", str(folder)).err
    assert "`orchestrator logs greeter --revision greeter-00002` shows it." in said


def test_a_stream_that_breaks_is_taken_up_where_it_broke(
    orchestrator: Orchestrator, platform: FakePlatform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_api.cli.client.RECONNECT_DELAY", 0)
    digest = bundle.digest(bundle.list_files(folder))
    events = f"GET /api/v1/deployments/{digest}/events"
    platform.answer(events, event_stream(("state", {"state": "building"}), cut=True))
    assert orchestrator("deploy", str(folder)).code == 0
    assert [request.headers.get("last-event-id") for request in platform.asked(events)] == [None, "1"]


def test_a_folder_without_a_manifest_says_how_to_make_one(orchestrator: Orchestrator, tmp_path: Path) -> None:
    said = orchestrator("deploy", str(tmp_path))
    assert said.code == 1
    assert "(no_manifest)" in said.err
    assert "orchestrator new" in said.err
