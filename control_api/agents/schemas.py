"""Bodies of the agents API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.revisions.schemas import EXAMPLE as REVISION
from control_api.revisions.schemas import InstanceView, RevisionView
from control_api.schemas import Body, Moment, View, example
from control_api.versions.schemas import EXAMPLE as VERSION

AgentState = Literal["building", "starting", "ready", "idle", "failed"]
"""`idle`: serving, scaled to zero. `building`, `starting`, `failed`: its newest deployment, while nothing serves."""

TARGET = {"revision": "triage-00003", "percent": 100, "tag": None}


class TrafficTargetBody(Body):
    revision: str = Field(description="A ready revision of this agent.")
    percent: int = Field(ge=0, le=100, description="All percentages sum to 100.")
    tag: str | None = Field(None, pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", description="Its own host; unique.")


class TrafficRequest(Body):
    model_config = example(
        targets=[{**TARGET, "percent": 90}, {"revision": "triage-00004", "percent": 10, "tag": "canary"}]
    )

    targets: list[TrafficTargetBody] = Field(min_length=1, max_length=100)


class RollbackRequest(Body):
    model_config = example(revision="triage-00002")

    revision: str | None = Field(None, description="By default the newest ready one before what serves now.")


class AgentView(View):
    model_config = example(
        id="0193a5b0-7c00-7000-8000-000000000001",
        name="triage",
        owner=PRINCIPAL,
        version="1.2.0",
        digest=VERSION["digest"],
        framework="langgraph",
        url="http://127.0.0.1:4100/agents/triage",
        state="ready",
        access="organization",
        scale={"min": 0, "max": 20},
        traffic=[TARGET],
        revisions=[REVISION],
        instances=REVISION["instances"],
        created_at="2026-11-24T13:00:00.000Z",
        updated_at="2026-11-24T14:00:00.000Z",
    )

    id: str = Field(description="UUID of the agent.")
    name: str
    owner: PrincipalView | None
    version: str | None = Field(description="Label of what serves; null before the first revision is ready.")
    digest: str | None
    framework: str
    url: str
    state: AgentState
    access: str
    scale: dict[str, Any]
    traffic: list[TrafficTargetBody]
    revisions: list[RevisionView] = Field(description="Newest first; those that are retired are left out.")
    instances: list[InstanceView]
    created_at: Moment
    updated_at: Moment
