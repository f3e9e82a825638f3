"""LangGraph on our journal, in an environment that has LangGraph: every `cases_*.py` of this folder runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.environments import environment, run_tests

FOLDER = Path(__file__).parent


@pytest.mark.xdist_group("langgraph")
@pytest.mark.parametrize("file", sorted(FOLDER.glob("cases_*.py")), ids=lambda file: file.stem)
def test_in_its_own_environment(file: Path) -> None:
    run_tests(environment("langgraph", FOLDER / "requirements.lock"), file)
