"""Bodies of the invitations API."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from control_api.organizations.principals import EXAMPLE as PRINCIPAL
from control_api.organizations.principals import PrincipalView
from control_api.organizations.schemas import ORGANIZATION, Email, Expiry, OrganizationView, Words
from control_api.schemas import Body, Moment, View, example
from domain.roles import Role

InvitationState = Literal["open", "accepted", "revoked", "expired"]

INVITATION = {
    "id": "0193a5b0-7c00-7000-8000-000000000006",
    "email": "ada@example.org",
    "role": "developer",
    "state": "open",
    "created_by": PRINCIPAL,
    "created_at": "2026-11-24T13:00:00.000Z",
    "expires_at": "2026-12-01T13:00:00.000Z",
}


class InvitationRequest(Body):
    model_config = example(email="ada@example.org", role="developer")

    email: Email = Field(description="Of the person who may accept it.")
    role: Role
    expires_at: Expiry = Field(None, description="By default in 7 days, at most in 30.")


class InvitationView(View):
    model_config = example(**INVITATION)

    id: str
    email: str
    role: Role
    state: InvitationState
    created_by: PrincipalView
    created_at: Moment
    expires_at: Moment


class NewInvitationView(InvitationView):
    model_config = example(**INVITATION, token="ori_…")  # noqa: S106 - no token

    token: str = Field(description="For the person who is invited; shown now and never again.")


class AcceptRequest(Body):
    model_config = example(token="ori_…", name="Ada", email="ada@example.org")  # noqa: S106 - no token

    token: SecretStr = Field(max_length=200, description="The invitation's.")
    name: Words | None = Field(None, description="Yours. Not needed with a credential of yours.")
    email: Email | None = Field(None, description="Yours: the one that was invited. Not needed with a credential.")


class AcceptedKey(View):
    organization: OrganizationView
    role: Role
    token: str = Field(description="A key for this organization; shown now and never again.")


KEY = {"organization": ORGANIZATION, "role": "developer", "token": "orc_…"}


class AcceptedView(View):
    model_config = example(person=PRINCIPAL, joined=KEY, personal=KEY)

    person: PrincipalView
    joined: AcceptedKey
    personal: AcceptedKey | None = Field(description="Your own organization; null if you were a member of one before.")
