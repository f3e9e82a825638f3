"""Functions that are written for functions-framework, in an environment that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.environments import environment, run_tests

FOLDER = Path(__file__).parent


@pytest.mark.xdist_group("functions_framework")
@pytest.mark.parametrize("file", sorted(FOLDER.glob("cases_*.py")), ids=lambda file: file.stem)
def test_in_an_environment_of_its_own(file: Path) -> None:
    run_tests(environment("functions_framework", FOLDER / "requirements.lock"), file)
