"""A crew is killed after its first tool; its second attempt repeats nothing that was recorded."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.fakes.environments import process_environment
from tests.fakes.model_server import ModelServer, model_server
from tests.fakes.run_context import Journal


def attempt(folder: Path, server: ModelServer, number: int) -> subprocess.CompletedProcess[str]:
    arguments = [str(folder / "journal"), str(folder / "tools"), server.openai_url, str(number)]
    command = [sys.executable, "-m", "tests.integration.crewai.crashing_crew", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=process_environment())


def test_a_killed_crew_goes_on_without_repeating_a_model_or_tool_call(tmp_path: Path) -> None:
    with model_server() as server:
        killed = attempt(tmp_path, server, 1)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(server.requests) == 2
        again = attempt(tmp_path, server, 2)
    assert again.stdout == "The tools said: 100 transferred; reported\n", again.stderr
    assert (tmp_path / "tools").read_text().split() == ["transfer", "report", "report"]
    assert len(server.requests) == 3  # two of the first attempt, and the one that it had not made
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 3
    journal = Journal.open(tmp_path / "journal")
    made = [
        (step["attempt"], step["name"], step["state"]) for step in journal.steps() if step["kind"] in ("model", "tool")
    ]
    assert made == [
        (1, "fake-1", "succeeded"),
        (1, "transfer", "succeeded"),
        (1, "fake-1", "succeeded"),
        (1, "report", "running"),
        (2, "report", "succeeded"),
        (2, "fake-1", "succeeded"),
    ]
