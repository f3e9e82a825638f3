"""Bodies of the organizations API, and names and moments that other bodies share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.schemas import Body, Moment, View, example
from domain.manifest import NAME
from domain.roles import PERMISSIONS, Role

Label = Annotated[str, Field(pattern=NAME, description="Lower case letters, digits and dashes, at most 40.")]
Words = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")
]
Email = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")
]
Expiry = Annotated[AwareDatetime | None, Field(description="RFC 3339, with a time zone.")]

ORGANIZATION = {
    "id": "0193a5b0-7c00-7000-8000-000000000003",
    "name": "acme",
    "created_at": "2026-11-24T13:00:00.000Z",
}


class OrganizationView(View):
    model_config = example(**ORGANIZATION)

    id: str
    name: str = Field(description="Part of hosts: NAME.ORGANIZATION.localhost.")
    created_at: Moment


class OrganizationRequest(Body):
    model_config = example(name="acme")

    name: Label


class MembershipView(View):
    model_config = example(**ORGANIZATION, role="developer", current=True)

    id: str
    name: str
    created_at: Moment
    role: Role
    current: bool = Field(description="Whether this credential is of that organization.")


class SelfView(View):
    model_config = example(
        principal=PRINCIPAL,
        organization=ORGANIZATION,
        role="developer",
        permissions=["agents:read", "self:read"],
        key="0193a5b0-7c00-7000-8000-000000000004",
        scopes=["agents:read"],
        expires_at=None,
    )

    principal: PrincipalView
    organization: OrganizationView
    role: Role
    permissions: list[str] = Field(description="In the whole organization; on single agents there may be more.")
    key: str = Field(description="Id of the API key.")
    scopes: list[str] | None = Field(description="What the key is narrowed to; null: to nothing.")
    expires_at: Moment | None


def known_permissions(scopes: list[str] | None) -> list[str] | None:
    """Sorted, each once. Raises `ValueError` for one that there is not."""
    unknown = sorted(set(scopes or ()) - PERMISSIONS)
    if unknown:
        raise ValueError(f"there is no permission {', '.join(unknown)}")
    return None if scopes is None else sorted(set(scopes))
