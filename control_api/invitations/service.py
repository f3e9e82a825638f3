"""Invites people, and takes in those who come.

Until people sign in, whoever accepts an invitation becomes a person with an organization of their own, and is given a
key for each; who is a person already joins with a key of theirs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from control_api.authorization import Credential, missing, new_token, require_below
from control_api.invitations import repository
from control_api.invitations.schemas import (
    AcceptedKey,
    AcceptedView,
    AcceptRequest,
    InvitationRequest,
    InvitationView,
    NewInvitationView,
)
from control_api.keys import repository as keys_of
from control_api.keys.service import future
from control_api.members import repository as members
from control_api.organizations import principals
from control_api.organizations import repository as organizations
from control_api.organizations.directory import Directory
from control_api.organizations.repository import Organization
from control_api.organizations.service import view as organization_view
from control_api.paging import Page, page_of
from control_api.store.database import Database, WriteSession
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock
from domain.roles import Role
from orchestrator_runtime.contract.errors import Conflict, Forbidden, NotFound, Unprocessable

TOKEN_PREFIX = "ori_"  # noqa: S105 - lets secret scanners recognise a leaked token
FIRST_KEY = "first"
USUALLY = timedelta(days=7)
MOST = timedelta(days=30)


class InvitationsService:
    def __init__(self, *, database: Database, directory: Directory, keys: OrganizationKeys, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._keys = keys
        self._clock = clock

    async def create(self, caller: Credential, wanted: InvitationRequest) -> NewInvitationView:
        """Raises `Forbidden` (`role_above`), `Unprocessable` (`expiry_invalid`) or `Conflict` (`member_already`)."""
        require_below(caller, wanted.role)
        now = self._clock.now()
        expires = future(wanted.expires_at, now=now) or now + USUALLY
        if expires > now + MOST:
            raise Unprocessable(
                "An invitation is open for 30 days at most", code="expiry_invalid", hint="Name an earlier `expires_at`."
            )
        token = new_token(TOKEN_PREFIX)

        def make(session: WriteSession) -> InvitationView:
            principals.require(session, caller.organization, caller.principal)
            if members.has_email(session, caller.organization, wanted.email):
                raise _member_already(wanted.email)
            return repository.create(
                session,
                caller.organization,
                email=wanted.email,
                role=wanted.role,
                token=token,
                created_by=caller.principal,
                now=now,
                expires_at=expires,
            )

        made = await self._database.write(make)
        return NewInvitationView(**dict(made), token=token)

    async def page(self, caller: Credential, *, after: str | None, limit: int) -> Page[InvitationView]:
        now = self._clock.now()
        rows = await self._database.read(
            lambda session: repository.page(session, caller.organization, after=after, limit=limit + 1, now=now)
        )
        return page_of(rows, limit=limit, key=lambda invitation: (invitation.id,))

    async def revoke(self, caller: Credential, invitation: str) -> None:
        """Raises `NotFound` (`invitation_unknown`) or `Conflict` (`invitation_used`)."""
        now = self._clock.now()

        def end(session: WriteSession) -> None:
            found = repository.find(session, caller.organization, invitation, now=now)
            if found is None:
                raise _unknown()
            if found.state == "accepted":
                raise _used()
            repository.revoke(session, caller.organization, invitation, now=now)

        await self._database.write(end)

    async def accept(self, caller: Credential | None, given: AcceptRequest) -> AcceptedView:
        """Join the organization, as the person behind `caller` or as a new one.

        Raises `NotFound` (`invitation_unknown`), `Conflict` (`invitation_used`, `invitation_revoked`,
        `invitation_expired`, `member_already`, `person_known`), `Forbidden` (`invitation_of_another`,
        `permission_missing`) or `Unprocessable` (`person_missing`).
        """
        now = self._clock.now()
        return await self._directory.change(
            lambda session: self._accept(session, caller, given, now),
            lambda accepted: [key.organization.id for key in (accepted.joined, accepted.personal) if key is not None],
        )

    def _accept(
        self, session: WriteSession, caller: Credential | None, given: AcceptRequest, now: datetime
    ) -> AcceptedView:
        invitation = _open(repository.by_token(session, given.token.get_secret_value()), now)
        personal: AcceptedKey | None = None
        if caller is None:
            person = _new_person(session, invitation, given, now)
            own = organizations.create(session, self._keys, organizations.free_name(session, str(given.name)), now=now)
            personal = _join(session, own, person, Role.OWNER, now)
        else:
            person = _known_person(session, invitation, caller)
        organization = organizations.get(session, invitation.organization)
        if principals.role_of(session, organization.id, person) is not None:
            raise _member_already(invitation.email)
        joined = _join(session, organization, person, Role(invitation.role), now)
        repository.accept(session, invitation.id, person=person, now=now)
        view = principals.views(session, organization.id, [person])[person]
        return AcceptedView(person=view, joined=joined, personal=personal)


def _open(invitation: Row[Any] | None, now: datetime) -> Row[Any]:
    if invitation is None:
        raise _unknown()
    state = repository.state(invitation, now)
    if state == "accepted":
        raise _used()
    if state != "open":
        raise Conflict(
            f"The invitation was {state}" if state == "revoked" else "The invitation has expired",
            code=f"invitation_{state}",
            hint="Ask for a new one.",
        )
    return invitation


def _new_person(session: WriteSession, invitation: Row[Any], given: AcceptRequest, now: datetime) -> str:
    if given.name is None or given.email is None:
        raise Unprocessable(
            "Who are you? `name` and `email` are needed without a credential",
            code="person_missing",
            hint="Give both, or send a key of yours if you are known here already.",
        )
    if given.email != invitation.email:
        raise _of_another()
    if organizations.person_of(session, given.email) is not None:
        raise Conflict(
            f"{given.email} is a person here already",
            code="person_known",
            hint="Accept it with a key of yours: `orchestrator invitations accept --as-me`.",
        )
    return organizations.create_person(session, given.name, email=given.email, now=now)


def _known_person(session: WriteSession, invitation: Row[Any], caller: Credential) -> str:
    """The person behind a credential that is not narrowed; one who had no address has the invited one from now on."""
    person = organizations.find_person(session, caller.principal)
    if person is None or caller.scopes is not None:
        raise missing("invitations:accept")
    if person.email is None and organizations.person_of(session, invitation.email) is None:
        organizations.set_email(session, caller.principal, invitation.email)
    elif person.email != invitation.email:
        raise _of_another()
    return caller.principal


def _join(session: WriteSession, organization: Organization, person: str, role: Role, now: datetime) -> AcceptedKey:
    organizations.join(session, organization.id, person, role, now=now)
    _, token = keys_of.create(session, organization.id, person, name=FIRST_KEY, created_by=person, now=now)
    return AcceptedKey(organization=organization_view(organization), role=role, token=token)


def _unknown() -> NotFound:
    return NotFound(
        "There is no such invitation", code="invitation_unknown", hint="`orchestrator invitations ls` lists them."
    )


def _used() -> Conflict:
    return Conflict("The invitation was accepted already", code="invitation_used", hint="Ask for a new one.")


def _member_already(email: str) -> Conflict:
    return Conflict(
        f"{email} belongs to the organization already",
        code="member_already",
        hint="`orchestrator members role` changes what a member may do.",
    )


def _of_another() -> Forbidden:
    return Forbidden(
        "This invitation is for somebody else",
        code="invitation_of_another",
        hint="It is bound to an e-mail address; ask for one for yours.",
    )
