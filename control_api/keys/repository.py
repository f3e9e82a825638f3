"""API keys in the database. Their tokens are not: only digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Update, bindparam, insert, select, update

from control_api.authorization import new_token, token_digest
from control_api.keys.schemas import KeyView
from control_api.organizations import principals
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import credentials
from orchestrator_runtime.contract.errors import NotFound
from orchestrator_runtime.contract.ids import uuid7


@dataclass(frozen=True, slots=True)
class StoredKey:
    id: str
    principal: str
    scopes: frozenset[str] | None
    expires_at: datetime | None
    of_home: bool  # its token is in the home folder


def create(
    session: WriteSession,
    organization: str,
    principal: str,
    *,
    name: str,
    created_by: str,
    now: datetime,
    scopes: Sequence[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, str]:
    """The id and the token of a new key."""
    identity, token = uuid7(), new_token()
    session.execute(
        insert(credentials).values(
            digest=token_digest(token),
            id=identity,
            organization=organization,
            principal=principal,
            name=name,
            scopes=scopes,
            created_by=created_by,
            created_at=now,
            expires_at=expires_at,
        )
    )
    return identity, token


def page(
    session: ReadSession, organization: str, *, principal: str | None, after: str | None, limit: int
) -> list[KeyView]:
    """Those that were not revoked, the newest first; `principal`: only theirs."""
    query = select(credentials).where(credentials.c.organization == organization, credentials.c.revoked_at.is_(None))
    if principal is not None:
        query = query.where(credentials.c.principal == principal)
    if after is not None:
        query = query.where(credentials.c.id < after)
    return _views(session, organization, session.execute(query.order_by(credentials.c.id.desc()).limit(limit)).all())


def view(session: ReadSession, organization: str, key: str) -> KeyView:
    query = select(credentials).where(credentials.c.organization == organization, credentials.c.id == key)
    [found] = _views(session, organization, session.execute(query).all())
    return found


def require(session: ReadSession, organization: str, key: str, *, principal: str | None) -> StoredKey:
    """A key that was not revoked; `principal`: only one of theirs. Raises `NotFound` (`key_unknown`)."""
    query = select(credentials).where(
        credentials.c.organization == organization, credentials.c.id == key, credentials.c.revoked_at.is_(None)
    )
    row = session.execute(query).first()
    if row is None or principal not in {None, row.principal}:
        raise NotFound(f"There is no key {key}", code="key_unknown", hint="`orchestrator keys ls` lists them.")
    scopes = None if row.scopes is None else frozenset(row.scopes)
    return StoredKey(row.id, row.principal, scopes, row.expires_at, of_home=row.created_by is None)


def revoke(session: WriteSession, organization: str, key: str, *, now: datetime) -> None:
    session.execute(_one(organization, key).values(revoked_at=now))


def replace_token(session: WriteSession, organization: str, key: str) -> str:
    """Give the key another token, which is returned; the one before opens nothing any more."""
    token = new_token()
    session.execute(_one(organization, key).values(digest=token_digest(token), last_used_at=None))
    return token


def note_used(session: WriteSession, used: Mapping[str, datetime]) -> None:
    """Write down when which digests were used last."""
    statement = update(credentials).where(credentials.c.digest == bindparam("of")).values(last_used_at=bindparam("at"))
    session.execute(statement, [{"of": digest, "at": at} for digest, at in used.items()])


def _one(organization: str, key: str) -> Update:
    return update(credentials).where(credentials.c.organization == organization, credentials.c.id == key)


def _views(session: ReadSession, organization: str, rows: Sequence[Row[Any]]) -> list[KeyView]:
    names = principals.views(
        session, organization, [identity for row in rows for identity in (row.principal, row.created_by)]
    )
    return [
        KeyView(
            id=row.id,
            name=row.name,
            principal=names[row.principal],
            scopes=row.scopes,
            created_by=names.get(row.created_by),
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
        )
        for row in rows
    ]
