"""Secrets in the database, sealed. Nothing here sees a value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from control_api.secrets.schemas import SecretView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import secrets
from control_api.store.upsert import upsert


def put(session: WriteSession, organization: str, name: str, *, sealed: bytes, now: datetime) -> None:
    row = {
        "organization": organization,
        "name": name,
        "sealed": sealed,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    upsert(session, secrets, row, {"sealed": sealed, "version": secrets.c.version + 1, "updated_at": now})


def sealed(session: ReadSession, organization: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of `names` that exist."""
    query = select(secrets.c.name, secrets.c.sealed).where(
        secrets.c.organization == organization, secrets.c.name.in_(names)
    )
    return {row.name: bytes(row.sealed) for row in session.execute(query)}


def names(session: ReadSession, organization: str) -> list[str]:
    query = select(secrets.c.name).where(secrets.c.organization == organization).order_by(secrets.c.name)
    return list(session.execute(query).scalars())


def page(session: ReadSession, organization: str, *, after: str | None, limit: int) -> list[SecretView]:
    """By name."""
    query = select(secrets).where(secrets.c.organization == organization).order_by(secrets.c.name).limit(limit)
    if after is not None:
        query = query.where(secrets.c.name > after)
    return [
        SecretView(name=row.name, version=row.version, created_at=row.created_at, updated_at=row.updated_at)
        for row in session.execute(query)
    ]


def remove(session: WriteSession, organization: str, name: str) -> bool:
    """Whether there was one."""
    query = delete(secrets).where(secrets.c.organization == organization, secrets.c.name == name)
    return bool(session.execute(query.returning(secrets.c.name)).first())
