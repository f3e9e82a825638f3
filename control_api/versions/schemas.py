"""Bodies of the versions API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Moment, View, example

EXAMPLE = {
    "agent": "triage",
    "digest": "3f1c9a0e7b52d1c4aa30f1d2c9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a39281706",
    "version": "1.2.0",
    "framework": "langgraph",
    "created_at": "2026-11-24T14:00:00.000Z",
}


class VersionView(View):
    model_config = example(**EXAMPLE)

    agent: str
    digest: str = Field(description="SHA-256 over the folder's files: the version's identity.")
    version: str = Field(description="The label in agent.yaml (semver).")
    framework: str
    created_at: Moment
