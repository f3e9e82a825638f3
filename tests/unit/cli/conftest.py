"""The command line in this process, against a fake platform."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control_api.cli.main import run
from tests.fakes.api_server import TOKEN, FakePlatform, api_server


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Orchestrator = Callable[..., Said]


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    with api_server() as served:
        yield served


@pytest.fixture
def orchestrator(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Orchestrator:
    """`orchestrator(*arguments, stdin=…)`, connected to the fake platform and working in an empty folder."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ORCHESTRATOR_URL", platform.url)
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", TOKEN)
    monkeypatch.delenv("ORCHESTRATOR_OUTPUT", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(arguments)
        out, err = capsysbinary.readouterr()
        return Said(code, out.decode(errors="replace"), err.decode())

    return call
