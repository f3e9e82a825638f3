"""Bodies of the members API."""

from __future__ import annotations

from pydantic import Field

from control_api.schemas import Body, Moment, View, example
from domain.roles import Role


class RoleRequest(Body):
    model_config = example(role="developer")

    role: Role


class MemberView(View):
    model_config = example(
        id="0193a5b0-7c00-7000-8000-000000000002",
        name="Ada",
        email="ada@example.org",
        role="developer",
        created_at="2026-11-24T13:00:00.000Z",
    )

    id: str = Field(description="Of the person.")
    name: str
    email: str | None
    role: Role
    created_at: Moment = Field(description="Since when they belong to the organization.")
