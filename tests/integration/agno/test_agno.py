"""The Agno adapter and template, in an environment with Agno."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.environments import environment, run_tests

FOLDER = Path(__file__).parent


@pytest.mark.xdist_group("agno")
@pytest.mark.parametrize("file", sorted(FOLDER.glob("cases_*.py")), ids=lambda file: file.stem)
def test_in_an_environment_of_its_own(file: Path) -> None:
    run_tests(environment("agno", FOLDER / "requirements.lock"), file)
