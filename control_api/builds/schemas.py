"""Bodies of the builds API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Moment, ProblemDocument, View, example
from control_api.versions.schemas import EXAMPLE as VERSION
from domain.deployment import BuildState


class BuildView(View):
    model_config = example(
        id="0193a5b0-7c40-7a10-8f00-5d6c7b8a9f01",
        agent="triage",
        digest=VERSION["digest"],
        state="succeeded",
        environment="9d3b1c…",
        problem=None,
        created_at="2026-11-24T14:00:00.000Z",
        ended_at="2026-11-24T14:00:03.120Z",
    )

    id: str
    agent: str
    digest: str = Field(description="The version it builds.")
    state: BuildState
    environment: str | None = Field(description="Digest of the environment it made or found.")
    problem: ProblemDocument | None
    created_at: Moment
    ended_at: Moment | None
