"""kill -9 of every process while requests are in flight: no accepted run is lost, stuck or recorded twice.

The agent says in its log where it is, and waits for a second request: so no test sleeps.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.platform import Installation, write_agent

GATED = '''
"""Waits, on its first attempt only, for a call to "open" that never comes when the instance is killed."""
import asyncio

gate = asyncio.Event()


async def handle(input, run: "Run"):
    if input.get("open"):
        gate.set()
        return {"opened": True}
    print("waiting", flush=True)
    if run.attempt == 1:
        await gate.wait()
    return {"attempt": run.attempt}


from orchestrator_runtime import Run
'''


@pytest.fixture
def gated(own_platform: Installation, tmp_path: Path) -> Installation:
    own_platform.deploy(write_agent(tmp_path / "gated", name="gated", code=GATED))
    return own_platform


def wait_for_log(platform: Installation, text: str) -> None:
    """Return when an instance has printed `text`."""
    with (
        platform.client() as client,
        client.stream("GET", "/api/v1/agents/gated/logs", params={"follow": "true"}) as lines,
    ):
        for line in lines.iter_lines():
            if text in line:
                return
    raise AssertionError(f"{text!r} was never printed")


def call(platform: Installation, value: dict[str, Any]) -> httpx.Response:
    with platform.client() as client:
        return client.post("/agents/gated", json=value)


def pids(platform: Installation, marker: str) -> list[int]:
    """Processes of this installation whose command line or name holds `marker`."""
    assert platform.process is not None
    found = []
    for pid in _descendants(platform.process.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if marker in command:
            found.append(pid)
    return found


def _descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _descendants(int(child))


def instance_pid(platform: Installation) -> int:
    with platform.client() as client:
        [revision] = client.get("/api/v1/agents/gated/revisions").json()["items"]
        [instance] = revision["instances"]
        return int(instance["pid"])


def test_a_killed_instance_s_run_is_attempted_again_and_the_caller_gets_its_answer(gated: Installation) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, gated, {})
        wait_for_log(gated, "waiting")
        os.kill(instance_pid(gated), signal.SIGKILL)
        assert answer.result().json() == {"attempt": 2}
    [run] = gated.runs("gated")
    assert run["state"] == "succeeded"
    assert run["attempt"] == 2


def test_a_killed_zygote_takes_its_instances_along_and_their_runs_go_on(gated: Installation) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, gated, {})
        wait_for_log(gated, "waiting")
        [zygote, *_] = pids(gated, "orchestrator_runtime.zygote")
        os.kill(zygote, signal.SIGKILL)
        assert answer.result().json() == {"attempt": 2}


def test_a_killed_gateway_loses_connections_but_no_run(gated: Installation) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, gated, {})
        wait_for_log(gated, "waiting")
        [gateway] = pids(gated, "local.gateway")
        os.kill(gateway, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            answer.result()
    assert call(gated, {"open": True}).json() == {"opened": True}
    with gated.client() as client:
        [run] = [run for run in gated.runs("gated") if run["trigger"] == "http" and not opened(client, run)]
        with client.stream(
            "GET", f"/api/v1/runs/{run['id']}/events", headers={"Accept": "text/event-stream"}
        ) as stream:
            assert any("succeeded" in line for line in stream.iter_lines() if line.startswith("event:"))


def opened(client: httpx.Client, run: dict[str, Any]) -> bool:
    return bool(client.get(f"/api/v1/runs/{run['id']}/input").json() == {"open": True})


def test_a_killed_server_delays_the_end_of_a_run_and_changes_nothing_else(gated: Installation) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(call, gated, {})
        wait_for_log(gated, "waiting")
        [server] = pids(gated, "control_api.server")
        os.kill(server, signal.SIGKILL)
        assert call(gated, {"open": True}).json() == {"opened": True}
        assert answer.result().json() == {"attempt": 1}
    assert {run["state"] for run in gated.runs("gated")} == {"succeeded"}


def test_a_killed_supervisor_takes_everything_along_and_the_next_one_finishes_the_runs(gated: Installation) -> None:
    with gated.client() as client:
        address = client.post("/agents/gated", json={}, headers={"Prefer": "respond-async"}).headers["Location"]
    wait_for_log(gated, "waiting")
    gated.kill()
    gated.start()
    with (
        gated.client() as client,
        client.stream("GET", f"{address}/events", headers={"Accept": "text/event-stream"}) as stream,
    ):
        assert any("succeeded" in line for line in stream.iter_lines() if line.startswith("event:"))
    with gated.client() as client:
        assert client.get(f"{address}/output").json() == {"attempt": 2}


def test_a_run_that_kills_its_instance_again_and_again_ends_as_failed(
    own_platform: Installation, tmp_path: Path
) -> None:
    code = "import os\ndef handle(input):\n    os.kill(os.getpid(), 9) if os.getpid() != 1 else os._exit(9)\n"
    own_platform.deploy(write_agent(tmp_path / "deadly", name="deadly", code=code))
    with own_platform.client() as client:
        answer = client.post("/agents/deadly", json={})
    assert answer.status_code >= 500
    assert json.loads(answer.text)["code"] == "executor_lost"
    [run] = own_platform.runs("deadly")
    assert run["state"] == "failed"
