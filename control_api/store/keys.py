"""Who has which key. From the outside in, each opens only the next:

    master key         in a file, in the environment or in Vault (`control_api.encryption`); wraps one key
    installation key   in the database, wrapped; wraps the keys of organizations and the key that signs tokens
    organization key   in the database, wrapped, in versions: the newest seals, the others open until nothing needs them
    blob key           derived for each sealed value (`sealing`)

Who reads the database without the master key learns nothing, and one organization's key opens nothing of another's.
The master key is asked once, at the start: a key store that goes away later stops nothing that runs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, select, text, update

from control_api.store.database import ReadSession, WriteSession
from control_api.store.sealing import KEY_BYTES, OrganizationKey, unwrap, wrap
from control_api.store.tables import data_keys, installation_keys
from control_api.store.upsert import insert_missing
from domain.clock import Clock
from domain.ports import MasterKey, MasterKeys
from orchestrator_runtime.contract.errors import NotFound

INSTALLATION, TOKENS, FORMER_TOKENS = "installation", "tokens", "former_tokens"
NEVER = sys.maxsize
BY_MASTER = 0  # `data_keys.installation` of a key that the master key itself wrapped, as all were in the beginning


class StoredKey(NamedTuple):
    """The installation key as it is in the database. `master`: id of the master key that wrapped it."""

    version: int
    wrapped: bytes
    master: str
    created_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class InstallationKey:
    """The secret of one installation: `key`, and the same `wrapped` by the master key whose id is `master`."""

    version: int
    key: bytes
    wrapped: bytes
    master: str

    @classmethod
    def make(cls, version: int, master: MasterKey) -> InstallationKey:
        """A new one. Raises what the master key raises."""
        key = os.urandom(KEY_BYTES)
        return cls(version, key, master.wrap(key, INSTALLATION), master.id)

    @staticmethod
    def stored(session: ReadSession) -> StoredKey | None:
        """What is in the database; None if there is none yet."""
        query = select(installation_keys).where(installation_keys.c.name == INSTALLATION)
        row = session.execute(query).one_or_none()
        return None if row is None else StoredKey(row.version, bytes(row.wrapped), row.master, row.created_at)


class OrganizationKeys:
    """Keys in memory, and every change of the tables that hold them, each in a transaction of the caller's.

    What is cached was committed: whoever changes a key calls `forget` after the commit.
    """

    def __init__(self, installation: InstallationKey, *, clock: Clock) -> None:
        self._installations = {installation.version: installation}
        self._clock = clock
        self._keys: dict[str, OrganizationKey] = {}
        self._oldest: dict[str, int] = {}  # the least version that may be cached: see `forget`

    @property
    def installation(self) -> InstallationKey:
        return self._installations[max(self._installations)]

    # of organizations

    def create(self, session: WriteSession, organization: str) -> None:
        """Give the organization a key, unless it has one. Belongs into the transaction that makes the organization."""
        self._keys.pop(organization, None)  # of a transaction that was undone: that key is in no database
        if self._newest(session, organization) is None:
            self._insert(session, organization, 1)

    def of(self, session: ReadSession, organization: str) -> OrganizationKey:
        """Raises `NotFound` (`organization_unknown`), or `Conflict` (`wrong_key`) if another key wrapped it."""
        known = self._keys.get(organization)
        if known is None:
            rows = session.execute(select(data_keys).where(data_keys.c.organization == organization)).all()
            if not rows:
                raise NotFound(f"There is no organization {organization}", code="organization_unknown")
            keys = {row.version: self._open(row) for row in rows}
            known = OrganizationKey(organization, keys)
            if known.version >= self._oldest.get(organization, 0):
                self._keys[organization] = known
        return known

    def add_version(self, session: WriteSession, organization: str) -> int:
        """Make a newer version, which seals after the commit and `forget`; returns its number.

        Raises `NotFound` (`organization_unknown`).
        """
        self.of(session, organization)  # stays cached until `forget`: nothing is sealed by what may be undone
        version = (self._newest(session, organization) or 0) + 1
        self._insert(session, organization, version)
        return version

    def destroy(self, session: WriteSession, organization: str, *, older_than: int | None = None) -> None:
        """Destroy the organization's key, or only versions of it: what they sealed can never be opened again.

        Not before the commit; call `forget` after it.
        """
        query = delete(data_keys).where(data_keys.c.organization == organization)
        if older_than is not None:
            query = query.where(data_keys.c.version < older_than)
        if session.dialect.name != "sqlite":
            session.execute(query)
            return
        session.execute(text("PRAGMA secure_delete = ON")).close()  # else the bytes stay in their page
        session.execute(query)
        session.execute(text("PRAGMA secure_delete = OFF")).close()

    def forget(self, organization: str, *, before: int = NEVER) -> None:
        """Read the key again when it is next used.

        `before`: the version that is newest now, because a read that began earlier does not see it and must not bring
        back what was; by default nothing is cached any more.
        """
        self._oldest[organization] = before
        self._keys.pop(organization, None)

    # of the installation

    def begin(self, session: WriteSession) -> None:
        """Store the installation key, and a key for tokens, unless there is one."""
        insert_missing(session, installation_keys, self._installation_row(self.installation))
        row = self._row(TOKENS, self.installation.version, wrap(self.installation.key, os.urandom(KEY_BYTES), TOKENS))
        insert_missing(session, installation_keys, row)

    def expect(self, installation: InstallationKey) -> None:
        """`installation` may be the one in the database soon: both are known until `settle`."""
        self._installations[installation.version] = installation

    def rewrap(self, session: WriteSession, installation: InstallationKey, *, first: MasterKey | None = None) -> None:
        """Wrap everything by `installation`, which is expected, and make a new key for tokens; all or nothing.

        `first` is the master key that wrapped organizations' keys before there were installation keys.
        Raises `Conflict` (`wrong_key`) if there is a key that cannot be unwrapped.
        """
        for row in session.execute(select(data_keys)).all():
            this = (data_keys.c.organization == row.organization) & (data_keys.c.version == row.version)
            if first is not None and row.installation == BY_MASTER:
                key = first.unwrap(bytes(row.wrapped), row.organization)
            else:
                key = self._open(row)
            wrapped = wrap(installation.key, key, _place(row.organization, row.version))
            session.execute(update(data_keys).where(this).values(wrapped=wrapped, installation=installation.version))
        rows = [self._installation_row(installation)]
        tokens = [os.urandom(KEY_BYTES), *self.token_keys(session, lifetime=0)]
        for name, key in zip((TOKENS, FORMER_TOKENS), tokens, strict=False):
            rows.append(self._row(name, installation.version, wrap(installation.key, key, TOKENS)))
        session.execute(delete(installation_keys))
        session.execute(insert(installation_keys), rows)

    def settle(self, session: ReadSession) -> None:
        """Forget what was expected and is not in the database.

        Former ones are known as long as this process lives: reads that began before may need them.
        """
        current = self._current(session).version
        self._installations = {version: key for version, key in self._installations.items() if version <= current}

    def token_keys(self, session: ReadSession, *, lifetime: float) -> list[bytes]:
        """The key that signs tokens, then the one that did in the last `lifetime` seconds, if there is one."""
        query = select(installation_keys).where(installation_keys.c.name.in_((TOKENS, FORMER_TOKENS)))
        found = {row.name: row for row in session.execute(query)}
        former = found.get(FORMER_TOKENS)
        if former is not None and (self._clock.now() - former.created_at).total_seconds() >= lifetime:
            del found[FORMER_TOKENS]
        rows = [found[name] for name in (TOKENS, FORMER_TOKENS) if name in found]
        return [unwrap(self._installations[row.version].key, bytes(row.wrapped), TOKENS) for row in rows]

    def _current(self, session: ReadSession) -> InstallationKey:
        """The one that wraps in this transaction."""
        stored = InstallationKey.stored(session)
        assert stored is not None, "`begin` comes first"
        return self._installations[stored.version]

    def _installation_row(self, key: InstallationKey) -> dict[str, Any]:
        return self._row(INSTALLATION, key.version, key.wrapped, key.master)

    def _row(self, name: str, version: int, wrapped: bytes, master: str | None = None) -> dict[str, Any]:
        now = self._clock.now()
        return {"name": name, "version": version, "wrapped": wrapped, "master": master, "created_at": now}

    def _newest(self, session: ReadSession, organization: str) -> int | None:
        query = select(func.max(data_keys.c.version)).where(data_keys.c.organization == organization)
        newest: int | None = session.execute(query).scalar_one()
        return newest

    def _insert(self, session: WriteSession, organization: str, version: int) -> None:
        self.begin(session)
        current = self._current(session)
        row = {
            "organization": organization,
            "version": version,
            "wrapped": wrap(current.key, os.urandom(KEY_BYTES), _place(organization, version)),
            "installation": current.version,
            "created_at": self._clock.now(),
        }
        session.execute(insert(data_keys).values(row))

    def _open(self, row: Any) -> bytes:
        installation = self._installations[row.installation]
        return unwrap(installation.key, bytes(row.wrapped), _place(row.organization, row.version))


def known_as(master: str, masters: MasterKeys) -> MasterKey | None:
    """The master key with that id, if it is to be had."""
    return next((key for key in masters.known() if key.id == master), None)


def _place(organization: str, version: int) -> str:
    return f"{organization}/{version}"
