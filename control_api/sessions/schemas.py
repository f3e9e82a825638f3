"""Bodies of the sessions API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from control_api.schemas import Moment, View, example

EXAMPLE = {
    "session": "customer-42",
    "agent": "triage",
    "runs": 3,
    "created_at": "2026-11-24T13:00:00.000Z",
    "updated_at": "2026-11-24T14:00:00.000Z",
}


class SessionView(View):
    model_config = example(**EXAMPLE)

    session: str = Field(description="The name that callers gave it (Orchestrator-Session).")
    agent: str
    runs: int = Field(description="How many runs it had.")
    created_at: Moment
    updated_at: Moment


class SessionDetails(SessionView):
    model_config = example(**EXAMPLE, state={"messages": ["Where is my parcel?"]}, state_bytes=35)

    state: Any = Field(description="What the last run left, if that is JSON: the framework's session, or its values.")
    state_bytes: int = Field(
        description="Size of the state that a framework has put, or what all checkpoints of LangGraph take."
    )
