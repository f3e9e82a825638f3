"""Bodies of the health API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from control_api.schemas import View, example

Condition = Literal["ok", "unavailable"]


class HealthView(View):
    model_config = example(status="ok", database="ok", gateway="ok", supervisor="ok")

    status: Condition = Field(description="ok if every part is.")
    database: Condition
    gateway: Condition = Field(description="Takes calls of agents.")
    supervisor: Condition = Field(description="Starts instances.")
