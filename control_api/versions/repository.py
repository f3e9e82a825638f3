"""Versions in the database. A version belongs to an agent; versions of a deleted agent are not found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, select, tuple_

from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agents, versions
from control_api.store.upsert import insert_missing
from control_api.versions.schemas import VersionView


def add(
    session: WriteSession,
    organization: str,
    agent: str,
    *,
    digest: str,
    manifest: Mapping[str, Any],
    source: str,
    now: datetime,
) -> None:
    """Store a version unless it is there."""
    row = {
        "organization": organization,
        "agent": agent,
        "digest": digest,
        "label": manifest["version"],
        "framework": manifest["framework"],
        "manifest": dict(manifest),
        "source": source,
        "created_at": now,
    }
    insert_missing(session, versions, row)


def find(session: ReadSession, organization: str, digest: str) -> VersionView | None:
    row = session.execute(_all(organization).where(versions.c.digest == digest)).first()
    return _view(row) if row else None


def page(
    session: ReadSession, organization: str, *, agent: str | None, after: str | None, limit: int
) -> list[VersionView]:
    """Newest first; `after` is the digest of the last one before."""
    query = _all(organization).order_by(versions.c.created_at.desc(), versions.c.digest.desc()).limit(limit)
    if agent is not None:
        query = query.where(agents.c.name == agent)
    if after is not None:
        last = (
            _all(organization).with_only_columns(versions.c.created_at).where(versions.c.digest == after)
        ).scalar_subquery()
        query = query.where(tuple_(versions.c.created_at, versions.c.digest) < tuple_(last, after))
    return [_view(row) for row in session.execute(query)]


def same_version(table: Table) -> ColumnElement[bool]:
    """Joins the version that a row of `table` (organization, agent, version) names, by its whole key."""
    return (
        (versions.c.organization == table.c.organization)
        & (versions.c.agent == table.c.agent)
        & (versions.c.digest == table.c.version)
    )


def _all(organization: str) -> Select[Any]:
    columns = (agents.c.name, versions.c.digest, versions.c.label, versions.c.framework, versions.c.created_at)
    return (
        select(*columns)
        .join(agents, versions.c.agent == agents.c.id)
        .where(versions.c.organization == organization, agents.c.deleted_at.is_(None))
    )


def _view(row: Row[Any]) -> VersionView:
    return VersionView(
        agent=row.name, digest=row.digest, version=row.label, framework=row.framework, created_at=row.created_at
    )
