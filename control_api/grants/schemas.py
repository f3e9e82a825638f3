"""Bodies of the grants API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.schemas import Body, Moment, View, example

Grantable = Literal["viewer", "operator", "developer", "admin"]


class OwnerRequest(Body):
    model_config = example(principal=PRINCIPAL["id"])

    principal: str = Field(description="Id of a person or a service account whose role may make agents.")


class GrantRequest(Body):
    model_config = example(role="operator")

    role: Grantable


class GrantView(View):
    model_config = example(
        principal=PRINCIPAL, role="operator", created_by=PRINCIPAL, created_at="2026-11-24T13:00:00.000Z"
    )

    principal: PrincipalView
    role: Grantable
    created_by: PrincipalView
    created_at: Moment
