"""Bodies of the deployments API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Body, Moment, ProblemDocument, View, example
from control_api.versions.schemas import EXAMPLE as VERSION
from domain.deployment import DeploymentState

EXAMPLE = {
    "id": "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b",
    "agent": "triage",
    "digest": VERSION["digest"],
    "version": "1.2.0",
    "revision": "triage-00003",
    "build": "0193a5b0-7c40-7a10-8f00-5d6c7b8a9f01",
    "state": "ready",
    "problem": None,
    "unchanged": False,
    "created_at": "2026-11-24T14:00:00.000Z",
    "url": "http://127.0.0.1:4100/agents/triage",
}


class DeploymentRequest(Body):
    model_config = example(digest=VERSION["digest"])

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Content digest of a version that was uploaded before.")


class DeploymentView(View):
    model_config = example(**EXAMPLE)

    id: str
    agent: str
    digest: str
    version: str
    revision: str | None = Field(description="Once the environment is there.")
    build: str | None = Field(description="The build that makes its environment, or finds it.")
    state: DeploymentState
    problem: ProblemDocument | None = Field(description="Why it failed.")
    unchanged: bool = Field(False, description="The agent served this version already; nothing was done.")
    created_at: Moment
    url: str = Field(description="Where the agent is called.")
