"""Invitations in the database. Their tokens are not: only digests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from control_api.authorization import token_digest
from control_api.invitations.schemas import InvitationState, InvitationView
from control_api.organizations import principals
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import invitations
from domain.roles import Role
from orchestrator_runtime.contract.ids import uuid7


def create(
    session: WriteSession,
    organization: str,
    *,
    email: str,
    role: Role,
    token: str,
    created_by: str,
    now: datetime,
    expires_at: datetime,
) -> InvitationView:
    values = {"id": uuid7(), "organization": organization, "email": email, "role": role}
    moments = {"created_at": now, "expires_at": expires_at}
    made = insert(invitations).values(**values, **moments, digest=token_digest(token), created_by=created_by)
    [view] = _views(session, organization, session.execute(made.returning(invitations)).all(), now)
    return view


def page(
    session: ReadSession, organization: str, *, after: str | None, limit: int, now: datetime
) -> list[InvitationView]:
    """The newest first, also those that are over."""
    query = select(invitations).where(invitations.c.organization == organization)
    if after is not None:
        query = query.where(invitations.c.id < after)
    rows = session.execute(query.order_by(invitations.c.id.desc()).limit(limit)).all()
    return _views(session, organization, rows, now)


def find(session: ReadSession, organization: str, invitation: str, *, now: datetime) -> InvitationView | None:
    query = select(invitations).where(invitations.c.organization == organization, invitations.c.id == invitation)
    found = _views(session, organization, session.execute(query).all(), now)
    return found[0] if found else None


def by_token(session: ReadSession, token: str) -> Row[Any] | None:
    """The one look-up across organizations: nobody knows which one it is before."""
    return session.execute(select(invitations).where(invitations.c.digest == token_digest(token))).first()


def revoke(session: WriteSession, organization: str, invitation: str, *, now: datetime) -> None:
    here = (invitations.c.organization == organization) & (invitations.c.id == invitation)
    session.execute(update(invitations).where(here).values(revoked_at=now))


def accept(session: WriteSession, invitation: str, *, person: str, now: datetime) -> None:
    here = invitations.c.id == invitation
    session.execute(update(invitations).where(here).values(accepted_at=now, accepted_by=person))


def state(row: Row[Any], now: datetime) -> InvitationState:
    if row.accepted_at is not None:
        return "accepted"
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at <= now else "open"


def _views(session: ReadSession, organization: str, rows: Sequence[Row[Any]], now: datetime) -> list[InvitationView]:
    inviters = principals.views(session, organization, [row.created_by for row in rows])
    return [
        InvitationView(
            id=row.id,
            email=row.email,
            role=row.role,
            state=state(row, now),
            created_by=inviters[row.created_by],
            created_at=row.created_at,
            expires_at=row.expires_at,
        )
        for row in rows
    ]
