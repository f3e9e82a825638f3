"""Members in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, delete, select, update

from control_api.members.schemas import MemberView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import members, people
from domain.roles import Role
from orchestrator_runtime.contract.errors import NotFound


def page(session: ReadSession, organization: str, *, after: str | None, limit: int) -> list[MemberView]:
    """By id, so in the order in which people came to the platform."""
    query = _members(organization).order_by(members.c.person).limit(limit)
    if after is not None:
        query = query.where(members.c.person > after)
    return [MemberView(**row) for row in session.execute(query).mappings()]


def require(session: ReadSession, organization: str, person: str) -> MemberView:
    """Raises `NotFound` (`member_unknown`)."""
    row = session.execute(_members(organization).where(members.c.person == person)).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"There is no member {person}", code="member_unknown", hint="`orchestrator members ls` lists them."
        )
    return MemberView(**row)


def has_email(session: ReadSession, organization: str, email: str) -> bool:
    return session.execute(_members(organization).where(people.c.email == email)).first() is not None


def set_role(session: WriteSession, organization: str, person: str, role: Role) -> None:
    here = (members.c.organization == organization) & (members.c.person == person)
    session.execute(update(members).where(here).values(role=role))


def remove(session: WriteSession, organization: str, person: str) -> None:
    session.execute(delete(members).where(members.c.organization == organization, members.c.person == person))


def _members(organization: str) -> Select[Any]:
    return (
        select(people.c.id, people.c.name, people.c.email, members.c.role, members.c.created_at)
        .join(members, members.c.person == people.c.id)
        .where(members.c.organization == organization)
    )
