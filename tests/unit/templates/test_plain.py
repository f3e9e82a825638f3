"""The plain template is a real agent: it works on its own sample input."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType

import pytest

from builders.manifest import read
from control_api.cli.new import TEMPLATES

FOLDER = TEMPLATES / "plain"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("template_plain_agent", FOLDER / "agent.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_reads_its_sample(agent: ModuleType) -> None:
    sample = json.loads((FOLDER / "input.json").read_text())
    answer = agent.handle(agent.Text(**sample))
    assert answer["words"] == 100
    assert answer["minutes"] == 0.4
    assert answer["key_words"][:2] == ["sediment", "rivers"]
    assert answer["summary"].startswith("A dam stops the water")
    assert answer["summary"].count(".") == sample["sentences"]


def test_an_empty_text_has_nothing_in_it(agent: ModuleType) -> None:
    assert agent.handle(agent.Text("")) == {"words": 0, "minutes": 0.0, "key_words": [], "summary": ""}


def test_its_manifest_is_valid() -> None:
    manifest = read((FOLDER / "agent.yaml").read_text())
    assert (manifest.framework, manifest.entrypoint) == ("plain", "agent:handle")
