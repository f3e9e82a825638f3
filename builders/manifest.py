"""Reads `agent.yaml`."""

from __future__ import annotations

from domain.manifest import Manifest


def read(text: str, *, file: str = "agent.yaml") -> Manifest:
    import yaml
    return Manifest.model_validate(yaml.safe_load(text))
