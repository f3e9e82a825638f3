"""Parameters of paths below /agents/{name}, and the error for a name that no agent has."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from control_api.openapi import Documented

Name = Annotated[str, Path(description="The agent's name.")]
Revision = Annotated[str, Path(description="Name of the revision, such as triage-00003.")]
NO_AGENT: Documented = (404, "agent_unknown", "There is no agent triage")
