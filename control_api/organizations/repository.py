"""Organizations and the people in them, in the database."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from control_api.store.database import ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import credentials, members, organizations, people
from domain.roles import Role
from orchestrator_runtime.contract.errors import Conflict
from orchestrator_runtime.contract.ids import uuid7

LONGEST_WISH = 30  # characters of a name that is made from a person's; a few more make it unique


@dataclass(frozen=True, slots=True)
class Organization:
    id: str
    name: str
    created_at: datetime


def first(session: ReadSession) -> Organization | None:
    """The organization that runs the installation: the one of the key in the home folder; before that the oldest."""
    of_home = organizations.c.id.in_(select(credentials.c.organization).where(credentials.c.created_by.is_(None)))
    row = (
        session.execute(select(organizations).where(of_home)).first()
        or session.execute(select(organizations).order_by(organizations.c.created_at, organizations.c.id)).first()
    )
    return Organization(row.id, row.name, row.created_at) if row else None


def get(session: ReadSession, organization: str) -> Organization:
    row = session.execute(select(organizations).where(organizations.c.id == organization)).one()
    return Organization(row.id, row.name, row.created_at)


def create(session: WriteSession, keys: OrganizationKeys, name: str, *, now: datetime) -> Organization:
    """An organization with its encryption key, and nobody in it."""
    made = Organization(uuid7(), name, now)
    session.execute(insert(organizations).values(id=made.id, name=name, created_at=now))
    keys.create(session, made.id)
    return made


def rename(session: WriteSession, organization: str, name: str) -> None:
    """Raises `Conflict` (`name_taken`): a name is part of hosts, so two cannot have it."""
    taken = select(organizations.c.id).where(organizations.c.name == name, organizations.c.id != organization)
    if session.execute(taken).first():
        raise Conflict(
            f"There is an organization {name} already", code="name_taken", hint="Choose another name: it is in hosts."
        )
    session.execute(update(organizations).where(organizations.c.id == organization).values(name=name))


def free_name(session: ReadSession, wished: str) -> str:
    """A name for an organization that nobody has, close to `wished`."""
    label = re.sub(r"[^a-z0-9]+", "-", wished.lower()).lstrip("-0123456789")[:LONGEST_WISH].rstrip("-") or "personal"
    name = label
    while session.execute(select(organizations.c.id).where(organizations.c.name == name)).first():
        name = f"{label}-{secrets.token_hex(4)}"
    return name


def create_person(session: WriteSession, name: str, *, email: str | None, now: datetime) -> str:
    """The id of a new person."""
    made = uuid7()
    session.execute(insert(people).values(id=made, name=name, email=email, created_at=now))
    return made


def find_person(session: ReadSession, person: str) -> Row[Any] | None:
    return session.execute(select(people).where(people.c.id == person)).first()


def person_of(session: ReadSession, email: str) -> str | None:
    return session.execute(select(people.c.id).where(people.c.email == email)).scalar_one_or_none()


def set_email(session: WriteSession, person: str, email: str) -> None:
    session.execute(update(people).where(people.c.id == person).values(email=email))


def join(session: WriteSession, organization: str, person: str, role: Role, *, now: datetime) -> None:
    session.execute(insert(members).values(organization=organization, person=person, role=role, created_at=now))


def owners(session: ReadSession, organization: str) -> list[str]:
    """The people who are owners, who came first first."""
    query = select(members.c.person).where(members.c.organization == organization, members.c.role == Role.OWNER)
    return list(session.execute(query.order_by(members.c.created_at, members.c.person)).scalars())


def memberships(session: ReadSession, person: str) -> list[tuple[Organization, Role]]:
    """The organizations that a person belongs to, by name."""
    query = (
        select(organizations, members.c.role)
        .join(members, members.c.organization == organizations.c.id)
        .where(members.c.person == person)
        .order_by(organizations.c.name)
    )
    return [(Organization(row.id, row.name, row.created_at), Role(row.role)) for row in session.execute(query)]
