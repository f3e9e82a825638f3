"""The first organization and its owner's token: made at the first start, found again at every other.

The token is in a file that only the user who runs the platform can read; the database knows its digest. Whoever
removes the file and starts again has a new token, and the one before is worth nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, insert, select

from control_api.authorization import EVERYTHING, Credential, new_token, token_digest
from control_api.store.database import ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import credentials, organizations
from orchestrator_runtime.contract.ids import uuid7

NAME = "default"
OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Organization:
    id: str
    name: str


def read_token(path: Path) -> str:
    """The owner's token; a new one, in a file of mode 0600, where there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        token = new_token()
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600, exist_ok=False)
    with unfinished.open("w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return token


def ensure(session: WriteSession, keys: OrganizationKeys, *, token: str, now: datetime) -> Organization:
    """The first organization with its key, and `token` as the only one that is its owner's."""
    organization = first(session)
    if organization is None:
        organization = Organization(uuid7(), NAME)
        session.execute(insert(organizations).values(id=organization.id, name=NAME, created_at=now))
    keys.create(session, organization.id)
    digest = token_digest(token)
    owners = (credentials.c.organization == organization.id) & (credentials.c.name == OWNER)
    session.execute(delete(credentials).where(owners, credentials.c.digest != digest))
    if session.execute(select(credentials.c.id).where(credentials.c.digest == digest)).first() is None:
        session.execute(
            insert(credentials).values(
                digest=digest,
                id=uuid7(),
                organization=organization.id,
                name=OWNER,
                permissions=[EVERYTHING],
                created_at=now,
            )
        )
    return organization


def first(session: ReadSession) -> Organization | None:
    row = session.execute(select(organizations.c.id, organizations.c.name).order_by(organizations.c.created_at)).first()
    return Organization(row.id, row.name) if row else None


def all_credentials(session: ReadSession) -> list[Credential]:
    columns = (credentials.c.id, credentials.c.digest, credentials.c.organization, credentials.c.permissions)
    return [
        Credential(row.id, row.digest, row.organization, frozenset(row.permissions))
        for row in session.execute(select(*columns))
    ]
