"""Bodies of the backups API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Moment, View, example


class BackupView(View):
    model_config = example(
        path="/home/ada/.orchestrator/backups/20261124T140000.db", size=1048576, created_at="2026-11-24T14:00:00.000Z"
    )

    path: str = Field(description="On the machine that runs the server.")
    size: int = Field(description="Bytes.")
    created_at: Moment
