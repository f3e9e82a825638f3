"""Who a principal is: a person who is a member, or a service account. Both are known by their id."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import delete, select, update

from control_api.organizations import repository
from control_api.schemas import View, example
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agent_grants, agents, credentials, invitations, members, people, service_accounts
from domain.roles import Role
from orchestrator_runtime.contract.errors import NotFound

Kind = Literal["person", "service-account", "gone"]
EXAMPLE = {"id": "0193a5b0-7c00-7000-8000-000000000002", "kind": "person", "name": "Ada"}


class PrincipalView(View):
    model_config = example(**EXAMPLE)

    id: str
    kind: Kind = Field(description="`gone`: a service account that was removed.")
    name: str | None


def views(session: ReadSession, organization: str, ids: Iterable[str | None]) -> dict[str | None, PrincipalView]:
    """Those of `ids`, which rows of this organization name, as they are shown."""
    wanted = {identity for identity in ids if identity is not None}
    if not wanted:
        return {}
    persons = session.execute(select(people.c.id, people.c.name).where(people.c.id.in_(wanted))).all()
    accounts = session.execute(
        select(service_accounts.c.id, service_accounts.c.name).where(
            service_accounts.c.organization == organization, service_accounts.c.id.in_(wanted)
        )
    ).all()
    found: dict[str | None, PrincipalView] = {
        identity: PrincipalView(id=identity, kind="gone", name=None) for identity in wanted
    }
    found |= {row.id: PrincipalView(id=row.id, kind="person", name=row.name) for row in persons}
    found |= {row.id: PrincipalView(id=row.id, kind="service-account", name=row.name) for row in accounts}
    return found


def role_of(session: ReadSession, organization: str, principal: str) -> Role | None:
    """The role that somebody has in the organization now; None if they are not in it."""
    member = select(members.c.role).where(members.c.organization == organization, members.c.person == principal)
    found = session.execute(member).scalar_one_or_none()
    return Role(found) if found is not None else role_of_account(session, organization, principal)


def require(session: ReadSession, organization: str, principal: str) -> Role:
    """As `role_of`. Raises `NotFound` (`principal_unknown`)."""
    role = role_of(session, organization, principal)
    if role is None:
        raise NotFound(
            f"Nobody in the organization has the id {principal}",
            code="principal_unknown",
            hint="`orchestrator members ls` and `orchestrator service-accounts ls` list who there is.",
        )
    return role


def require_account(session: ReadSession, organization: str, account: str) -> Role:
    """The role of a service account. Raises `NotFound` (`service_account_unknown`)."""
    role = role_of_account(session, organization, account)
    if role is None:
        raise NotFound(
            f"There is no service account {account}",
            code="service_account_unknown",
            hint="`orchestrator service-accounts ls` lists them.",
        )
    return role


def role_of_account(session: ReadSession, organization: str, account: str) -> Role | None:
    """The role of a service account; None if there is none of this id."""
    query = select(service_accounts.c.role).where(
        service_accounts.c.organization == organization, service_accounts.c.id == account
    )
    found = session.execute(query).scalar_one_or_none()
    return None if found is None else Role(found)


def leave(session: WriteSession, organization: str, principal: str, *, by: str, now: datetime) -> None:
    """Take everything from one who has just been removed `by` somebody: keys, grants and open invitations end.

    The agents go to whoever did it; where somebody removed themselves, to the oldest owner.
    """
    heir = by if by != principal else repository.owners(session, organization)[0]
    session.execute(
        update(credentials)
        .where(
            credentials.c.organization == organization,
            credentials.c.principal == principal,
            credentials.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    session.execute(
        delete(agent_grants).where(agent_grants.c.organization == organization, agent_grants.c.principal == principal)
    )
    session.execute(
        update(agents).where(agents.c.organization == organization, agents.c.owner == principal).values(owner=heir)
    )
    revoke_invitations(session, organization, principal, now=now)


def revoke_invitations(session: WriteSession, organization: str, inviter: str, *, now: datetime) -> None:
    """Nobody comes in on the word of one who may not give it any more."""
    session.execute(
        update(invitations)
        .where(
            invitations.c.organization == organization,
            invitations.c.created_by == inviter,
            invitations.c.accepted_at.is_(None),
            invitations.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
