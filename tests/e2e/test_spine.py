"""The main job, as a user does it: a folder becomes a running agent that scales to zero and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.platform import Installation, write_agent

GREETER = """
def handle(input):
    return {"greeting": "hello " + input["name"]}
"""
SLOW_TO_ZERO = "scale: {window: 6s}\n"


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.xdist_group("spine on SQLite")),
        pytest.param("postgresql", marks=pytest.mark.xdist_group("spine on PostgreSQL")),
    ]
)
def platform(request: pytest.FixtureRequest, platform: Installation) -> Installation:
    """The same on both databases."""
    if request.param == "sqlite":
        return platform
    other: Installation = request.getfixturevalue("postgresql_platform")
    return other


def invoke(platform: Installation, agent: str, value: object) -> object:
    return json.loads(platform.cli("invoke", agent, "-d", json.dumps(value)))


def test_a_folder_becomes_an_agent_whose_runs_are_journalled(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "greeter", name="greeter", code=GREETER))

    assert invoke(platform, "greeter", {"name": "Ada"}) == {"greeting": "hello Ada"}

    [run] = platform.runs("greeter")
    assert run["state"] == "succeeded"
    with platform.client() as client:
        assert client.get(f"/api/v1/runs/{run['id']}/input").json() == {"name": "Ada"}
        assert client.get(f"/api/v1/runs/{run['id']}/output").json() == {"greeting": "hello Ada"}


def test_an_unchanged_folder_is_not_deployed_again(platform: Installation, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "same", name="same", code=GREETER)
    platform.deploy(folder)
    again = json.loads(platform.cli("deploy", str(folder), "--output", "json"))
    assert again["unchanged"] is True
    with platform.client() as client:
        assert len(client.get("/api/v1/agents/same/revisions").json()["items"]) == 1


def test_a_change_becomes_a_new_revision_that_takes_all_calls(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "changing", name="changing", code=GREETER))
    platform.deploy(write_agent(tmp_path / "changing", name="changing", code=GREETER.replace("hello", "good day")))
    assert invoke(platform, "changing", {"name": "Ada"}) == {"greeting": "good day Ada"}


BROKEN = {
    "entrypoint_not_importable": "import nothing_of_that_name\n",
    "entrypoint_missing_attribute": "def other(input): ...\n",
    "entrypoint_wrong_framework": "handle = 'a text, no function'\n",
    "entrypoint_exited": "import sys\nsys.exit(3)\n",
    "instance_exited": "import os\nos._exit(3)\n",
    "out_of_memory": "hoard = bytearray(2 << 30)\n",
    "start_timeout": "import time\nwhile True: time.sleep(1)\n",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_version_that_does_not_start_leaves_the_previous_one_serving(
    platform: Installation, tmp_path: Path, code: str
) -> None:
    name = "broken-" + code.replace("_", "-")
    limits = "timeouts: {start: 5s}\n"
    folder = write_agent(tmp_path / name, name=name, code=GREETER, manifest=limits)
    platform.deploy(folder)

    write_agent(folder, name=name, code=BROKEN[code], manifest=limits)
    said = platform.cli("deploy", str(folder), "--output", "json", check=False)

    assert json.loads(said)["problem"]["code"] == code
    assert invoke(platform, name, {"name": "Ada"}) == {"greeting": "hello Ada"}


def test_an_agent_scales_to_zero_and_back(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "sleeper", name="sleeper", code=GREETER, manifest=SLOW_TO_ZERO))
    invoke(platform, "sleeper", {"name": "Ada"})
    with platform.client(timeout=90) as client, client.stream("GET", "/api/v1/agents/sleeper/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and _instances(json.loads(line[5:])) == 0:
                break
    assert invoke(platform, "sleeper", {"name": "Bob"}) == {"greeting": "hello Bob"}


def _instances(state: dict[str, object]) -> int:
    revisions = state["revisions"]
    assert isinstance(revisions, list)
    return sum(revision["ready_instances"] for revision in revisions)


def test_an_asynchronous_call_is_answered_after_the_commit_and_done_later(
    platform: Installation, tmp_path: Path
) -> None:
    platform.deploy(write_agent(tmp_path / "later", name="later", code=GREETER))
    with platform.client() as client:
        accepted = client.post("/agents/later", json={"name": "Ada"}, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        address = accepted.headers["Location"]
        with client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream:
            for line in stream.iter_lines():
                if line.startswith("event:") and "succeeded" in line:
                    break
        assert client.get(f"{address}/output").json() == {"greeting": "hello Ada"}


def test_the_same_idempotency_key_runs_once(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "once", name="once", code=GREETER))
    with platform.client() as client:
        answers = [
            client.post("/agents/once", json={"name": "Ada"}, headers={"Idempotency-Key": "k1"}) for _ in range(3)
        ]
        other = client.post("/agents/once", json={"name": "Bob"}, headers={"Idempotency-Key": "k1"})
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len(platform.runs("once")) == 1
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_data_survives_a_restart(own_platform: Installation, tmp_path: Path) -> None:
    own_platform.deploy(write_agent(tmp_path / "lasting", name="lasting", code=GREETER))
    invoke(own_platform, "lasting", {"name": "Ada"})
    own_platform.stop()
    own_platform.start()
    assert len(own_platform.runs("lasting")) == 1
    assert invoke(own_platform, "lasting", {"name": "Bob"}) == {"greeting": "hello Bob"}


HEADERS = """
from orchestrator_runtime.frameworks.adapter import Input

def handle(given: Input):
    return dict(given.headers)
"""


def test_an_asynchronous_run_has_the_headers_of_its_request(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "webhook", name="webhook", code=HEADERS))
    with platform.client() as client:
        sent = client.post("/agents/webhook", json={}, headers={"prefer": "respond-async", "x-github-event": "push"})
        run = sent.json()["run"]
        platform.cli("runs", "follow", run)
        seen = client.get(f"/api/v1/runs/{run}/output").json()
        assert seen["x-github-event"] == "push"
        assert "authorization" not in seen
        assert "push" not in json.dumps(client.get(f"/api/v1/runs/{run}").json())
