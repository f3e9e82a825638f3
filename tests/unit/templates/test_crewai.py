"""The crewai template as a folder; tests/integration/crewai tests what its agent does, where the framework is."""

from __future__ import annotations

import json
from pathlib import Path

from builders.dependencies import read as read_dependencies
from builders.manifest import read
from control_api.cli.new import TEMPLATES, copy_template

FOLDER = TEMPLATES / "crewai"


def test_its_manifest_is_valid_and_says_where_the_model_is() -> None:
    manifest = read((FOLDER / "agent.yaml").read_text())
    assert (manifest.name, manifest.framework, manifest.entrypoint) == ("postmortem", "crewai", "agent:crew")
    assert manifest.secrets == ["OPENAI_API_KEY"]
    assert manifest.env.keys() == {"OPENAI_BASE_URL", "MODEL"}


def test_it_depends_on_what_it_imports() -> None:
    assert read_dependencies(str(FOLDER)).requirements == ("crewai>=1.15",)


def test_its_sample_has_what_it_needs() -> None:
    assert json.loads((FOLDER / "input.json").read_text()).keys() == {"service", "notes"}


def test_a_copy_has_its_own_name_wherever_the_template_has_one(tmp_path: Path) -> None:
    copy_template("crewai", tmp_path / "new", name="mine")
    readme = (tmp_path / "new" / "README.md").read_text()
    assert "orchestrator invoke mine -d @input.json" in readme
    assert "orchestrator secrets set OPENAI_API_KEY" in readme
    assert "postmortem" not in readme
    assert read((tmp_path / "new" / "agent.yaml").read_text()).name == "mine"
