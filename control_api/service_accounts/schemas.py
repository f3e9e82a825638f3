"""Bodies of the service accounts API."""

from __future__ import annotations

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.organizations.schemas import Label
from control_api.schemas import Body, Moment, View, example
from domain.roles import Role


class ServiceAccountRequest(Body):
    model_config = example(name="deployer", role="developer")

    name: Label
    role: Role


class ServiceAccountView(View):
    model_config = example(
        id="0193a5b0-7c00-7000-8000-000000000005",
        name="deployer",
        role="developer",
        created_by=PRINCIPAL,
        created_at="2026-11-24T13:00:00.000Z",
    )

    id: str
    name: str
    role: Role
    created_by: PrincipalView
    created_at: Moment
