"""Service accounts in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select

from control_api.organizations import principals
from control_api.service_accounts.schemas import ServiceAccountView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import service_accounts
from domain.roles import Role
from orchestrator_runtime.contract.errors import Conflict
from orchestrator_runtime.contract.ids import uuid7


def page(session: ReadSession, organization: str, *, after: str | None, limit: int) -> list[ServiceAccountView]:
    """By name."""
    query = select(service_accounts).where(service_accounts.c.organization == organization)
    if after is not None:
        query = query.where(service_accounts.c.name > after)
    return _views(session, organization, session.execute(query.order_by(service_accounts.c.name).limit(limit)).all())


def create(
    session: WriteSession, organization: str, name: str, role: Role, *, created_by: str, now: datetime
) -> ServiceAccountView:
    """Raises `Conflict` (`name_taken`)."""
    named = select(service_accounts).where(
        service_accounts.c.organization == organization, service_accounts.c.name == name
    )
    if session.execute(named).first():
        raise Conflict(
            f"There is a service account {name} already",
            code="name_taken",
            hint="Choose another name, or use that one.",
        )
    values = {"id": uuid7(), "organization": organization, "name": name, "role": role}
    session.execute(insert(service_accounts).values(**values, created_by=created_by, created_at=now))
    [made] = _views(session, organization, session.execute(named).all())
    return made


def remove(session: WriteSession, organization: str, account: str) -> None:
    session.execute(
        delete(service_accounts).where(
            service_accounts.c.organization == organization, service_accounts.c.id == account
        )
    )


def _views(session: ReadSession, organization: str, rows: Sequence[Row[Any]]) -> list[ServiceAccountView]:
    makers = principals.views(session, organization, [row.created_by for row in rows])
    return [
        ServiceAccountView(
            id=row.id, name=row.name, role=row.role, created_by=makers[row.created_by], created_at=row.created_at
        )
        for row in rows
    ]
