"""What a start does with keys: find the master key that wrapped this database, and wrap anew what another one wrapped.

Nothing is made while there is data, and nothing is changed before the right key is found: a key that is wrong or
missing costs a start, and no data.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, column, inspect, select, table

from control_api.encryption.sources import master_keys
from control_api.settings import Settings
from control_api.store.database import ReadSession, WriteSession
from control_api.store.engines import short_lived
from control_api.store.keys import BY_MASTER, INSTALLATION, InstallationKey, OrganizationKeys, StoredKey, known_as
from control_api.store.tables import data_keys, installation_keys
from domain.clock import Clock
from domain.ports import MasterKey, MasterKeys
from orchestrator_runtime.contract.errors import Conflict, Problem

logger = logging.getLogger("encryption")

HOLDING_KEYS = (installation_keys.name, data_keys.name, "organization_keys")
"""Tables with wrapped keys; the last one is of a database that has not been upgraded yet."""


def is_new(url: str) -> bool:
    """Whether no key was ever wrapped in the database at `url`: then there is nothing that a master key must open."""
    with short_lived(url, writing=True) as engine, engine.connect() as connection:
        return _is_new(connection)


def _is_new(connection: Connection) -> bool:
    there = [name for name in HOLDING_KEYS if inspect(connection).has_table(name)]
    return not any(
        connection.execute(select(column("wrapped")).select_from(table(name)).limit(1)).first() for name in there
    )


def open_keys(url: str, masters: MasterKeys, *, clock: Clock) -> OrganizationKeys:
    """The keys of a database that is migrated. Blocks.

    Raises `Conflict` (`wrong_key`) if no key that is to be had wrapped it, and what the master keys raise.
    """
    with short_lived(url, writing=True) as engine, engine.begin() as connection:
        session = WriteSession(ReadSession(connection))
        stored = InstallationKey.stored(session)
        if stored is None:
            return _first_opening(session, masters, clock)
        return _open(session, stored, masters, clock)


def check(settings: Settings) -> None:
    """Raises what a start would raise for its keys, and changes nothing: for whoever waits for that start."""
    masters = master_keys(settings, is_new=False)
    with short_lived(settings.database_url, writing=False) as engine, engine.connect() as connection:
        nothing = _is_new(connection)
        has_one = inspect(connection).has_table(installation_keys.name)
        stored = InstallationKey.stored(ReadSession(connection)) if has_one else None
    if stored is not None:
        _unwrapped(stored, masters)
    elif not nothing or settings.encryption.source != "file":  # else that start makes it
        masters.current().wrap(b"anything", INSTALLATION)


def _unwrapped(stored: StoredKey, masters: MasterKeys) -> InstallationKey:
    current = masters.current()
    master = known_as(stored.master, masters)
    if master is None:
        raise Conflict(
            f"The database was sealed with the master key {stored.master}, and the one that is there is {current.id}",
            code="wrong_key",
            hint="Restore the key that was saved with this database, or a backup that belongs to this key.",
        )
    key = master.unwrap(stored.wrapped, INSTALLATION)
    return InstallationKey(stored.version, key, stored.wrapped, stored.master)


def _open(session: WriteSession, stored: StoredKey, masters: MasterKeys, clock: Clock) -> OrganizationKeys:
    masters.settle(stored.master)  # a rotation may have been cut off, after its commit or before
    keys = OrganizationKeys(_unwrapped(stored, masters), clock=clock)
    current = masters.current()
    if stored.master != current.id:
        logger.warning("The database is wrapped by the master key %s: wrapping it by %s", stored.master, current.id)
        fresh = InstallationKey.make(stored.version + 1, current)
        keys.expect(fresh)
        keys.rewrap(session, fresh)
        keys.settle(session)
    return keys


def _first_opening(session: WriteSession, masters: MasterKeys, clock: Clock) -> OrganizationKeys:
    """Of a new database, or of one that the program before installation keys has used."""
    installation = InstallationKey.make(BY_MASTER + 1, masters.current())
    keys = OrganizationKeys(installation, clock=clock)
    keys.rewrap(session, installation, first=_first(session, masters))
    return keys


def _first(session: ReadSession, masters: MasterKeys) -> MasterKey | None:
    """The master key that wrapped the organizations' keys before there were installation keys; None if there are none.

    Raises `Conflict` (`wrong_key`).
    """
    row = session.execute(select(data_keys).where(data_keys.c.installation == BY_MASTER)).first()
    if row is None:
        return None
    refusal: Problem | None = None
    for key in masters.known():
        try:
            key.unwrap(bytes(row.wrapped), row.organization)
        except Problem as problem:  # another one may be right; the first refusal is told if none is
            refusal = refusal or problem
        else:
            return key
    assert refusal is not None, "the current key is among those that are known"
    raise refusal
