"""Secrets in the database: names, and versions that are sealed or refer to a value outside. Nothing here sees one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, select, update

from control_api.secrets.schemas import SecretVersionView, SecretView
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import secret_versions, secrets
from control_api.store.upsert import upsert

KEPT_VERSIONS = 10

IN_USE = (
    (secret_versions.c.organization == secrets.c.organization)
    & (secret_versions.c.name == secrets.c.name)
    & (secret_versions.c.version == secrets.c.version)
)


def put(
    session: WriteSession, organization: str, name: str, *, sealed: bytes | None, reference: str | None, now: datetime
) -> None:
    """Add a version and use it; the oldest one goes when there are too many. Exactly one of `sealed`, `reference`."""
    version = (_latest(session, organization, name) or 0) + 1
    row = {"organization": organization, "name": name}
    changes = {"version": version, "latest": version, "updated_at": now}
    upsert(session, secrets, {**row, **changes, "created_at": now}, changes)
    value = {"version": version, "sealed": sealed, "reference": reference, "created_at": now}
    session.execute(secret_versions.insert().values(**row, **value))
    kept = select(secret_versions.c.version).where(*_named(organization, name))
    kept = kept.order_by(secret_versions.c.version.desc()).limit(KEPT_VERSIONS)
    gone = secret_versions.c.version.not_in(list(session.execute(kept).scalars()))
    session.execute(delete(secret_versions).where(*_named(organization, name), gone))


def in_use(session: ReadSession, organization: str, names: Sequence[str]) -> Sequence[Any]:
    """(name, sealed, reference) of those of `names` that exist."""
    columns = (secrets.c.name, secret_versions.c.sealed, secret_versions.c.reference)
    query = select(*columns).join(secret_versions, IN_USE).where(secrets.c.organization == organization)
    return session.execute(query.where(secrets.c.name.in_(names))).all()


def names(session: ReadSession, organization: str) -> list[str]:
    query = select(secrets.c.name).where(secrets.c.organization == organization).order_by(secrets.c.name)
    return list(session.execute(query).scalars())


def find(session: ReadSession, organization: str, name: str) -> SecretView | None:
    row = session.execute(_views(organization).where(secrets.c.name == name)).one_or_none()
    return None if row is None else _view(row)


def page(session: ReadSession, organization: str, *, after: str | None, limit: int) -> list[SecretView]:
    """By name."""
    query = _views(organization).order_by(secrets.c.name).limit(limit)
    if after is not None:
        query = query.where(secrets.c.name > after)
    return [_view(row) for row in session.execute(query)]


def versions(session: ReadSession, organization: str, name: str) -> list[SecretVersionView]:
    """Newest first; none if there is no such secret."""
    query = (
        select(secret_versions, (secret_versions.c.version == secrets.c.version).label("in_use"))
        .join(secrets, (secrets.c.organization == organization) & (secrets.c.name == name))
        .where(*_named(organization, name))
        .order_by(secret_versions.c.version.desc())
    )
    return [
        SecretVersionView(
            version=row.version, reference=row.reference, in_use=bool(row.in_use), created_at=row.created_at
        )
        for row in session.execute(query)
    ]


def use(session: WriteSession, organization: str, name: str, version: int, *, now: datetime) -> None:
    """Let the secret be what that version, which exists, says."""
    this = (secrets.c.organization == organization) & (secrets.c.name == name)
    session.execute(update(secrets).where(this).values(version=version, updated_at=now))


def remove(session: WriteSession, organization: str, name: str) -> bool:
    """With all versions. Whether there was one."""
    session.execute(delete(secret_versions).where(*_named(organization, name)))
    query = delete(secrets).where(secrets.c.organization == organization, secrets.c.name == name)
    return bool(session.execute(query.returning(secrets.c.name)).first())


def remove_version(session: WriteSession, organization: str, name: str, version: int) -> None:
    this = secret_versions.c.version == version
    session.execute(delete(secret_versions).where(*_named(organization, name), this))


def _latest(session: ReadSession, organization: str, name: str) -> int | None:
    query = select(secrets.c.latest).where(secrets.c.organization == organization, secrets.c.name == name)
    return session.execute(query).scalar_one_or_none()


def _named(organization: str, name: str) -> tuple[Any, ...]:
    return (secret_versions.c.organization == organization, secret_versions.c.name == name)


def _views(organization: str) -> Select[Any]:
    query = select(secrets, secret_versions.c.reference).join(secret_versions, IN_USE)
    return query.where(secrets.c.organization == organization)


def _view(row: Row[Any]) -> SecretView:
    return SecretView(
        name=row.name,
        version=row.version,
        reference=row.reference,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
