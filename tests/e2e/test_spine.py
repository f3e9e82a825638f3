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


def invoke(platform: Installation, agent: str, value: object) -> object:
    return json.loads(platform.cli("invoke", agent, "-d", json.dumps(value)))


def test_a_folder_becomes_an_agent_whose_runs_are_journalled(either_platform: Installation, tmp_path: Path) -> None:
    either_platform.deploy(write_agent(tmp_path / "greeter", name="greeter", code=GREETER))

    assert invoke(either_platform, "greeter", {"name": "Ada"}) == {"greeting": "hello Ada"}

    [run] = either_platform.runs("greeter")
    assert run["state"] == "succeeded"
    with either_platform.client() as client:
        assert client.get(f"/api/v1/runs/{run['id']}/input").json() == {"name": "Ada"}
        assert client.get(f"/api/v1/runs/{run['id']}/output").json() == {"greeting": "hello Ada"}


def test_an_unchanged_folder_is_not_deployed_again(either_platform: Installation, tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "same", name="same", code=GREETER)
    either_platform.deploy(folder)
    again = json.loads(either_platform.cli("deploy", str(folder), "--output", "json"))
    assert again["unchanged"] is True
    with either_platform.client() as client:
        assert len(client.get("/api/v1/agents/same/revisions").json()["items"]) == 1


def test_a_change_becomes_a_new_revision_that_takes_all_calls(either_platform: Installation, tmp_path: Path) -> None:
    either_platform.deploy(write_agent(tmp_path / "changing", name="changing", code=GREETER))
    either_platform.deploy(
        write_agent(tmp_path / "changing", name="changing", code=GREETER.replace("hello", "good day"))
    )
    assert invoke(either_platform, "changing", {"name": "Ada"}) == {"greeting": "good day Ada"}


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
    either_platform: Installation, tmp_path: Path, code: str
) -> None:
    name = "broken-" + code.replace("_", "-")
    limits = "timeouts: {start: 5s}\n"
    folder = write_agent(tmp_path / name, name=name, code=GREETER, manifest=limits)
    either_platform.deploy(folder)

    write_agent(folder, name=name, code=BROKEN[code], manifest=limits)
    said = either_platform.cli("deploy", str(folder), "--output", "json", check=False)

    assert json.loads(said)["problem"]["code"] == code
    assert invoke(either_platform, name, {"name": "Ada"}) == {"greeting": "hello Ada"}


def test_an_agent_scales_to_zero_and_back(either_platform: Installation, tmp_path: Path) -> None:
    either_platform.deploy(write_agent(tmp_path / "sleeper", name="sleeper", code=GREETER, manifest=SLOW_TO_ZERO))
    invoke(either_platform, "sleeper", {"name": "Ada"})
    with either_platform.client(timeout=90) as client, client.stream("GET", "/api/v1/agents/sleeper/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and _instances(json.loads(line[5:])) == 0:
                break
    assert invoke(either_platform, "sleeper", {"name": "Bob"}) == {"greeting": "hello Bob"}


def _instances(state: dict[str, object]) -> int:
    revisions = state["revisions"]
    assert isinstance(revisions, list)
    return sum(revision["ready_instances"] for revision in revisions)


def test_an_asynchronous_call_is_answered_after_the_commit_and_done_later(
    either_platform: Installation, tmp_path: Path
) -> None:
    either_platform.deploy(write_agent(tmp_path / "later", name="later", code=GREETER))
    with either_platform.client() as client:
        accepted = client.post("/agents/later", json={"name": "Ada"}, headers={"Prefer": "respond-async"})
        assert accepted.status_code == 202
        address = accepted.headers["Location"]
        with client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream:
            for line in stream.iter_lines():
                if line.startswith("event:") and "succeeded" in line:
                    break
        assert client.get(f"{address}/output").json() == {"greeting": "hello Ada"}


def test_the_same_idempotency_key_runs_once(either_platform: Installation, tmp_path: Path) -> None:
    either_platform.deploy(write_agent(tmp_path / "once", name="once", code=GREETER))
    with either_platform.client() as client:
        answers = [
            client.post("/agents/once", json={"name": "Ada"}, headers={"Idempotency-Key": "k1"}) for _ in range(3)
        ]
        other = client.post("/agents/once", json={"name": "Bob"}, headers={"Idempotency-Key": "k1"})
    assert {answer.text for answer in answers} == {answers[0].text}
    assert len(either_platform.runs("once")) == 1
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


def test_an_asynchronous_run_has_the_headers_of_its_request(either_platform: Installation, tmp_path: Path) -> None:
    either_platform.deploy(write_agent(tmp_path / "webhook", name="webhook", code=HEADERS))
    with either_platform.client() as client:
        sent = client.post("/agents/webhook", json={}, headers={"prefer": "respond-async", "x-github-event": "push"})
        run = sent.json()["run"]
        either_platform.cli("runs", "follow", run)
        seen = client.get(f"/api/v1/runs/{run}/output").json()
        assert seen["x-github-event"] == "push"
        assert "authorization" not in seen
        assert "push" not in json.dumps(client.get(f"/api/v1/runs/{run}").json())
