"""`orchestrator dev`: a saved change serves without another command, and what the agent prints is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform import Installation, write_agent

PATIENCE = 60.0  # seconds until a test that hangs fails
GREETER = """
def handle(input):
    print("asked by", input["name"], flush=True)
    return {"greeting": "hello"}
"""
SERVES = "greeting-dev serves at"


class Dev:
    """A running `orchestrator dev`; what it says is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self, text: str) -> str:
        """The next line with this text."""
        assert self.process.stdout is not None
        before = []
        for line in self.process.stdout:
            if text in line:
                return line
            before.append(line)
        raise AssertionError(f"it never said {text!r}, but:\n" + "".join(before))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent", name="greeting-dev", code=GREETER)


@pytest.fixture
def dev(platform: Installation, folder: Path) -> Iterator[Dev]:
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "orchestrator"), "dev", str(folder)],
        env={**os.environ, "ORCHESTRATOR_HOME": str(platform.home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_long = threading.Timer(PATIENCE, process.kill)
    too_long.start()
    yield Dev(process)
    too_long.cancel()
    process.kill()
    process.communicate()


def test_a_saved_change_serves_and_a_mistake_is_told_and_mended(platform: Installation, folder: Path, dev: Dev) -> None:
    with platform.client() as client:

        def greeting() -> object:
            return client.post("/agents/greeting-dev", json={"name": "Ada"}).json()

        dev.says(SERVES)
        assert greeting() == {"greeting": "hello"}
        dev.says("asked by Ada")

        (folder / "agent.py").write_text(GREETER.replace("hello", "good day"))
        dev.says(SERVES)
        assert greeting() == {"greeting": "good day"}
        dev.says("asked by Ada")

        (folder / "agent.py").write_text("import nothing_of_that_name\n")
        dev.says("(entrypoint_not_importable)")
        assert greeting() == {"greeting": "good day"}

        (folder / "agent.py").write_text(GREETER.replace("hello", "welcome"))
        dev.says(SERVES)
        assert greeting() == {"greeting": "welcome"}

    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(PATIENCE) == 130
