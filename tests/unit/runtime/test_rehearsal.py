"""What a zygote does before it forks leaves nothing that a fork would not survive or an agent could meet."""

from __future__ import annotations

import gc
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator_runtime import rehearsal


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made, short enough for sockets. What other tests have left open is closed."""
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        gc.collect()
        yield Path(folder)


def traces() -> dict[str, Any]:
    return {
        "threads": [thread.name for thread in threading.enumerate()],
        "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        "path": list(sys.path),
        "agent": rehearsal.MODULE in sys.modules,
        "folders": [folder for folder in sys.path_importer_cache if "rehearsal-" in folder],
        "files": list(Path(tempfile.gettempdir()).iterdir()),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)],
        "wake-up": signal.set_wakeup_fd(-1),
    }


def test_an_agent_answers_and_nothing_stays(capfd: pytest.CaptureFixture[str]) -> None:
    assert rehearsal.rehearse("plain")  # what is imported once stays imported
    before = traces()
    assert rehearsal.rehearse("plain")
    assert traces() == before
    assert capfd.readouterr() == ("", "")


def test_a_framework_without_an_agent_to_rehearse_has_the_server_rehearsed() -> None:
    assert rehearsal.rehearse("crewai")


def test_a_rehearsal_that_fails_is_told_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(rehearsal.AGENTS, "plain", "async def agent(input):\n    raise ValueError('broken')\n")
    before = traces()
    assert not rehearsal.rehearse("plain")
    assert traces() == before
    assert "broken" in capfd.readouterr().err
