"""`make up` and `make down`, as somebody who has just cloned the repository types them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        yield Path(folder) / "home"
        make("down", Path(folder) / "home")


def make(target: str, home: Path) -> str:
    """What `make TARGET` printed, on both streams; it must succeed."""
    done = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=REPOSITORY,
        env={**os.environ, "ORCHESTRATOR_HOME": str(home), "ORCHESTRATOR_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_make_up_starts_the_platform_with_its_samples_and_a_second_one_changes_nothing(home: Path) -> None:
    first = make("up", home)
    address = (home / "address").read_text().strip()
    assert f"Orchestrator serves at {address}" in first
    for sample in ("text-reader", "issue-triage", "release-notes"):
        assert f"{sample} 0.1.0" in first
    commands = [line.strip() for line in first.splitlines() if line.startswith("  orchestrator ")]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(
            command,
            shell=True,
            check=True,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "ORCHESTRATOR_HOME": str(home),
                "PATH": f"{REPOSITORY / '.venv/bin'}:{os.environ['PATH']}",
            },
        )

    second = make("up", home)
    assert "nothing changed" in second
    assert second.count("is unchanged and already serves") == 3
    assert (home / "address").read_text().strip() == address

    assert "Stopped" in make("down", home)
    assert "It was not running" in make("down", home)
