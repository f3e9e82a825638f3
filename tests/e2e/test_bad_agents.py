"""Agents and callers that do what they should not: each gets a clear error, and nobody else notices."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.platform import Installation, installation, write_agent

TYPED = """
from dataclasses import dataclass

@dataclass
class Order:
    item: str
    count: int = 1

def handle(order: Order):
    return {"ordered": order.item * order.count}
"""


@pytest.fixture
def ordering(platform: Installation, tmp_path: Path) -> Iterator[httpx.Client]:
    platform.deploy(write_agent(tmp_path / "ordering", name="ordering", code=TYPED, manifest="payload_limit: 1Ki\n"))
    with platform.client() as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"item": ', 400, "not_json"),
        (b'{"count": 2}', 422, "input_invalid"),
        (b'{"item": "a", "count": "many"}', 422, "input_invalid"),
        (json.dumps({"item": "a" * 2000}).encode(), 413, "payload_too_large"),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused_with_the_reason(
    ordering: httpx.Client, body: bytes, status: int, code: str
) -> None:
    answer = ordering.post("/agents/ordering", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]
    assert ordering.post("/agents/ordering", json={"item": "a"}).json() == {"ordered": "a"}


LOOKING_OUT = """
import socket
import urllib.request

def handle(how):
    if how == "client":
        return urllib.request.urlopen("http://models.example.org/").status
    socket.create_connection(("models.example.org", 80))
"""


@pytest.mark.parametrize(
    ("network", "how", "said"),
    [
        ("none", "client", "agent.yaml says `network: none`"),
        ("none", "socket", "agent.yaml says `network: none`"),
        ("[other.example.org]", "client", "agent.yaml does not list this host under `network`"),
        ("[other.example.org]", "socket", "agent.yaml lets it reach only the hosts listed under `network`"),
    ],
)
def test_an_agent_that_may_not_reach_a_host_hears_that_its_manifest_says_so(
    platform: Installation, tmp_path: Path, network: str, how: str, said: str
) -> None:
    platform.deploy(
        write_agent(tmp_path / "looking", name="looking", code=LOOKING_OUT, manifest=f"network: {network}\n")
    )
    with platform.client() as client:
        problem = client.post("/agents/looking", json=how).json()
    assert problem["code"] == "agent_failed"
    assert said in f"{problem['detail']} {problem['hint']}"


GARBAGE = r"""
import os, sys

def handle(input):
    os.write(1, b"\xff\xfe\x00 garbage \x1b[2J\n")
    print('{"at": 1, "line": "forged", "instance": "somebody-else"}')
    sys.stdout.write("x" * 200_000)
    return {"fine": True}
"""


def test_garbage_on_stdout_is_a_line_of_the_log_and_no_more(platform: Installation, tmp_path: Path) -> None:
    platform.deploy(write_agent(tmp_path / "noisy", name="noisy", code=GARBAGE))
    with platform.client() as client:
        assert client.post("/agents/noisy", json={}).json() == {"fine": True}
        log = client.get("/api/v1/agents/noisy/logs").text
    lines = [json.loads(line) for line in log.split("\n") if line]
    assert any("garbage" in line["line"] for line in lines)
    assert {line["instance"].rpartition("-")[0] for line in lines} == {"noisy-00001"}


def test_a_dependency_that_does_not_exist_leaves_the_previous_version_serving(
    platform: Installation, tmp_path: Path
) -> None:
    code = "def handle(input): return {'version': 1}\n"
    folder = write_agent(tmp_path / "needy", name="needy", code=code)
    platform.deploy(folder)
    write_agent(folder, name="needy", code=code, files={"requirements.txt": "pydantic>=2,<1\n"})
    failed = json.loads(platform.cli("deploy", str(folder), "--output", "json", check=False))
    assert failed["problem"]["code"] == "dependencies_unresolvable"
    with platform.client() as client:
        assert client.post("/agents/needy", json={}).json() == {"version": 1}


BLOCKING = """
import time

async def handle(input):
    time.sleep(input["seconds"])
    return {"slept": input["seconds"]}
"""


def test_code_that_blocks_its_event_loop_for_longer_than_a_lease_keeps_its_run(
    platform: Installation, tmp_path: Path
) -> None:
    platform.deploy(write_agent(tmp_path / "blocking", name="blocking", code=BLOCKING))
    with platform.client() as client:
        assert client.post("/agents/blocking", json={"seconds": 17}).json() == {"slept": 17}
    [run] = platform.runs("blocking")
    assert (run["state"], run["attempt"]) == ("succeeded", 1)


HOARDING = """
hoard = []

def handle(input):
    while input["hoard"]:
        hoard.append(b"x" * (8 << 20))
    return {"version": VERSION}
"""


def test_a_run_that_takes_more_memory_than_its_limit_fails_and_both_revisions_serve_on(
    platform: Installation, tmp_path: Path
) -> None:
    folder = tmp_path / "hoarding"
    limit = "resources: {memory: 128Mi}\nscale: {max: 1}\n"
    for version in ("1", "2"):
        code = HOARDING.replace("VERSION", version)
        platform.deploy(write_agent(folder, name="hoarding", code=code, manifest=limit))
    platform.cli("traffic", "hoarding", "2=100", "--tag", "before=1")
    with platform.client() as client:
        answer = client.post("/agents/hoarding", json={"hoard": True})
        assert (answer.status_code, answer.json()["code"]) == (502, "executor_lost")
        assert "out_of_memory" in answer.json()["detail"]
        assert "resources.memory" in answer.json()["hint"]
        [run] = platform.runs("hoarding")
        assert (run["state"], run["problem"]["code"]) == ("failed", "executor_lost")
        attempts = client.get(f"/api/v1/runs/{run['id']}").json()["attempts"]
        assert [(attempt["state"], attempt["reason"]) for attempt in attempts] == [("lost", "out_of_memory")] * 4
        assert client.post("/agents/hoarding", json={"hoard": False}).json() == {"version": 2}
        before = {"Orchestrator-Tag": "before"}
        assert client.post("/agents/hoarding", json={"hoard": False}, headers=before).json() == {"version": 1}


STUBBORN = """
import time

async def handle(input):
    print("working", flush=True)
    while input["stubborn"]:
        time.sleep(0.1)
    return {"done": True}
"""


def test_an_instance_that_does_not_yield_to_a_cancel_is_replaced(platform: Installation, tmp_path: Path) -> None:
    manifest = "timeouts: {grace: 1s}\nscale: {max: 1}\n"
    platform.deploy(write_agent(tmp_path / "stubborn", name="stubborn", code=STUBBORN, manifest=manifest))
    with platform.client() as client, ThreadPoolExecutor() as pool:
        accepted = client.post("/agents/stubborn", json={"stubborn": True}, headers={"Prefer": "respond-async"})
        address = accepted.headers["Location"]
        wait_for_line(client, "stubborn", "working")
        other = pool.submit(client.post, "/agents/stubborn", json={"stubborn": False})
        client.post(f"{address}/cancel").raise_for_status()
        assert ended(client, address) == "cancelled"
        assert other.result().json() == {"done": True}


def wait_for_line(client: httpx.Client, agent: str, text: str) -> None:
    with client.stream("GET", f"/api/v1/agents/{agent}/logs", params={"follow": "true"}) as lines:
        for line in lines.iter_lines():
            if text in line:
                return
    raise AssertionError(f"{text!r} was never printed")


def ended(client: httpx.Client, address: str) -> str:
    """The state in which a run ends, awaited on its live stream."""
    with client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream:
        for _ in stream.iter_lines():
            pass
    state: str = client.get(address).json()["state"]
    return state


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file system of its own")
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], check=True)
        yield Path(folder)
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_what_is_new_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    agent = write_agent(tmp_path / "agent", name="agent", code="def handle(input): return input\n")
    with installation(small_disk / "home") as running:
        running.deploy(agent)
        with running.client() as client:
            assert client.post("/agents/agent", json={"a": 1}).status_code == 200
            ballast = small_disk / "ballast"
            fill(ballast)
            refused = client.post("/agents/agent", json={"a": 2, "text": "x" * 4000})
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
            write_agent(agent, name="agent", code="def handle(input): return 1\n" + "#" * 5000)
            said: dict[str, Any] = json.loads(running.cli("deploy", str(agent), "-o", "json", check=False) or "{}")
            assert said == {} or said["state"] == "failed"
            ballast.unlink()
            assert client.post("/agents/agent", json={"a": 3}).json() == {"a": 3}
        assert {run["state"] for run in running.runs("agent")} == {"succeeded"}


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return
