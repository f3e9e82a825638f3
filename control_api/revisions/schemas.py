"""Bodies of the revisions API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Moment, ProblemDocument, View, example
from control_api.versions.schemas import EXAMPLE as VERSION
from domain.deployment import RevisionState

EXAMPLE = {
    "name": "triage-00003",
    "agent": "triage",
    "digest": VERSION["digest"],
    "version": "1.2.0",
    "state": "ready",
    "percent": 100,
    "tag": None,
    "ready_instances": 1,
    "desired_instances": 1,
    "protections": {"namespaces": "in force"},
    "instances": [
        {
            "instance": "triage-00003-1a2b",
            "revision": "triage-00003",
            "state": "ready",
            "started_at": "2026-11-24T13:59:59.500Z",
            "pid": 4711,
        }
    ],
    "problem": None,
    "created_at": "2026-11-24T14:00:00.000Z",
}


class InstanceView(View):
    instance: str
    revision: str
    state: str = Field(description="starting, ready or stopping.")
    started_at: Moment
    pid: int | None = Field(description="Process on the machine that runs it; null where that has no meaning.")


class RevisionView(View):
    model_config = example(**EXAMPLE)

    name: str
    agent: str
    digest: str
    version: str
    state: RevisionState
    percent: int = Field(description="Share of the agent's calls.")
    tag: str | None
    ready_instances: int
    desired_instances: int
    protections: dict[str, str] = Field(description="Each protection of the sandbox: in force, or missing and why.")
    instances: list[InstanceView]
    problem: ProblemDocument | None
    created_at: Moment
