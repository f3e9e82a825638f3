"""Bodies of the keys API."""

from __future__ import annotations

from pydantic import Field, field_validator

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.organizations.schemas import Expiry, Words, known_permissions
from control_api.schemas import Body, Moment, View, example

KEY = {
    "id": "0193a5b0-7c00-7000-8000-000000000004",
    "name": "continuous integration",
    "principal": PRINCIPAL,
    "scopes": ["agents:read", "agents:write"],
    "created_by": PRINCIPAL,
    "created_at": "2026-11-24T13:00:00.000Z",
    "expires_at": "2027-02-24T13:00:00.000Z",
    "last_used_at": None,
}


class KeyRequest(Body):
    model_config = example(name="continuous integration", scopes=["agents:read", "agents:write"], expires_at=None)

    name: Words = Field(description="What it is for.")
    scopes: list[str] | None = Field(
        None, max_length=100, description="The only permissions it may use; by default all that its principal has."
    )
    expires_at: Expiry = None
    service_account: str | None = Field(None, description="Id of the service account it is for; by default yourself.")

    _known = field_validator("scopes")(known_permissions)


class KeyView(View):
    model_config = example(**KEY)

    id: str
    name: str
    principal: PrincipalView = Field(description="Who it stands for.")
    scopes: list[str] | None = Field(description="Null: all that its principal has.")
    created_by: PrincipalView | None = Field(description="Null: the platform, for the home folder.")
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="To a few seconds.")


class NewKeyView(KeyView):
    model_config = example(**KEY, token="orc_…")  # noqa: S106 - no token

    token: str = Field(description="Shown now and never again.")
