"""Starter agents: copied, named, and never over something that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_api.cli.new import NAMES, TEMPLATES, template_name
from tests.unit.cli.conftest import Orchestrator

AVAILABLE = [name for name in NAMES if (TEMPLATES / name / "agent.yaml").exists()]


@pytest.mark.parametrize("template", AVAILABLE)
def test_a_template_becomes_a_folder_under_its_new_name(
    orchestrator: Orchestrator, tmp_path: Path, template: str
) -> None:
    said = orchestrator("new", "my-own", "--template", template)
    assert said.code == 0
    folder = tmp_path / "my-own"
    assert "\nname: my-own\n" in "\n" + (folder / "agent.yaml").read_text()
    assert "orchestrator invoke my-own -d @" in (folder / "README.md").read_text()
    assert f"invoke {template_name(template)} " not in (folder / "README.md").read_text()
    assert 'name = "my-own"' in (folder / "pyproject.toml").read_text()
    assert (folder / "agent.py").exists()
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize("template", AVAILABLE)
def test_a_template_contains_the_input_that_its_readme_calls(template: str) -> None:
    text = (TEMPLATES / template / "README.md").read_text()
    named = text.split(f"orchestrator invoke {template_name(template)} -d @")[1].split()[0]
    assert (TEMPLATES / template / named).is_file()


def test_a_folder_that_is_not_empty_is_left_alone(orchestrator: Orchestrator, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    said = orchestrator("new", "mine")
    assert said.code == 1
    assert "(folder_not_empty)" in said.err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_and_another_place_are_fine(orchestrator: Orchestrator, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert orchestrator("new", "empty").code == 0
    assert orchestrator("new", "other", "--into", "deep/down", "-o", "json").json()["folder"].endswith("deep/down")


def test_a_folder_that_cannot_be_made_is_a_problem(orchestrator: Orchestrator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = orchestrator("new", "other", "--into", "file/other")
    assert said.code == 1
    assert "file/other cannot be made: Not a directory (folder_unwritable)" in said.err


@pytest.mark.parametrize("name", ["Triage", "1st", "a_b", "-a", "a" * 41])
def test_a_name_that_no_agent_can_have_is_refused(orchestrator: Orchestrator, name: str) -> None:
    said = orchestrator("new", "--", name)
    assert said.code == 1
    assert "(name_invalid)" in said.err
