"""The first organization, its owner, and the key in the home folder: made at the first start, found at every other.

The token is in a file that only the user who runs the platform can read; the database knows its digest. Whoever
removes the file and starts again has a new token, and the one before is worth nothing.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, insert, select

from control_api.authorization import new_token, token_digest
from control_api.organizations import repository
from control_api.organizations.repository import Organization
from control_api.store.database import WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import credentials
from domain.roles import Role
from orchestrator_runtime.contract.ids import uuid7

NAME = "default"
OWNER = "owner"


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
    """The first organization with its encryption key and an owner; `token` opens it as that owner."""
    organization = repository.first(session) or repository.create(session, keys, NAME, now=now)
    keys.create(session, organization.id)
    owner = next(iter(repository.owners(session, organization.id)), None)
    if owner is None:
        owner = repository.create_person(session, OWNER, email=None, now=now)
        repository.join(session, organization.id, owner, Role.OWNER, now=now)
    digest = token_digest(token)
    of_home = (credentials.c.organization == organization.id) & credentials.c.created_by.is_(None)
    useless = (credentials.c.digest != digest) | credentials.c.revoked_at.is_not(None)
    session.execute(delete(credentials).where(of_home, useless))
    if session.execute(select(credentials.c.id).where(credentials.c.digest == digest)).first() is None:
        values = {"digest": digest, "id": uuid7(), "organization": organization.id, "principal": owner, "name": OWNER}
        session.execute(insert(credentials).values(**values, created_at=now))
    return organization
