"""Seals everything of an organization anew after its key got a newer version, then destroys the older versions.

There is nothing to remember: an organization whose key has several versions is not finished, and a value says which
version sealed it. So it may be cut off anywhere, and goes on at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import LargeBinary, bindparam, func, select, tuple_

from control_api.encryption.sealed import SealedColumn, sealed_columns
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import data_keys
from orchestrator_runtime.contract.errors import Problem

logger = logging.getLogger("encryption")

ROWS_LOOKED_AT = 500
BATCH_BYTES = 1024 * 1024  # sealed anew in one transaction: others' writes wait for it
READS_END = 10.0  # seconds; a read that began before the last value was sealed anew has ended by then
RETRY = 5.0

Row = tuple[Any, ...]
"""A primary key."""


class Resealing:
    """`run` does what is to be done, now and whenever `wake` is called."""

    def __init__(
        self,
        *,
        database: Database,
        keys: OrganizationKeys,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._keys = keys
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self.unreadable: dict[str, int] = {}
        """Values that no version opens, by organization: while there are any, no version is destroyed."""

    def wake(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wanted.clear()
            try:
                for organization in await self._database.read(unfinished):
                    await self.finish(organization)
            except Problem:  # the database is away, or does not take it: nothing was lost
                logger.exception("Sealing anew was cut off and is tried again")
                await self._sleep(RETRY)
            else:
                await self._wanted.wait()

    async def finish(self, organization: str) -> None:
        """Seal everything by the newest version and destroy the others; raises what the database raises."""
        await self._database.write(lambda session: None)  # whoever took an older version to seal with has committed
        newest, prefixes = await self._database.read(partial(self._target, organization))
        unreadable = 0
        for column in await self._database.read(sealed_columns):
            unreadable += await self._column(organization, column, prefixes)
        if unreadable:
            self.unreadable[organization] = unreadable
            logger.error("%d values of organization %s cannot be opened: no key is destroyed", unreadable, organization)
            return
        self.unreadable.pop(organization, None)
        await self._sleep(READS_END)
        await self._database.write(lambda session: self._keys.destroy(session, organization, older_than=newest))
        self._keys.forget(organization, before=newest)
        logger.info("Everything of organization %s is sealed by version %d of its key", organization, newest)

    def _target(self, organization: str, session: ReadSession) -> tuple[int, tuple[bytes, ...]]:
        key = self._keys.of(session, organization)
        return key.version, key.prefixes

    async def _column(self, organization: str, column: SealedColumn, prefixes: Sequence[bytes]) -> int:
        """Returns how many values could not be opened."""
        unreadable = 0
        after: Row | None = None
        while True:
            look = partial(_older, organization=organization, column=column, prefixes=prefixes, after=after)
            found = await self._database.read(look)
            if not found:
                return unreadable
            for batch in _batches(found):
                unreadable += await self._database.write(partial(self._reseal, organization, column, batch))
            after = found[-1][0]

    def _reseal(self, organization: str, column: SealedColumn, batch: Sequence[Row], session: WriteSession) -> int:
        """In the writer thread. The rows are read again: they may have changed, or gone."""
        key = self._keys.of(session, organization)
        rows = column.rows()
        names = [part.name for part in column.key]
        changed: list[Row] = []
        unreadable = 0
        for *place, sealed in rows.find(session, batch):
            if sealed is None:
                continue
            try:
                fresh = key.reseal(bytes(sealed), column.context(dict(zip(names, place, strict=True))))
            except Problem:  # damaged: it stays as it is, and so does every version
                unreadable += 1
            else:
                changed.append((fresh, *place))
        rows.update(session, (column.column,), changed)
        return unreadable


def unfinished(session: ReadSession) -> list[str]:
    """Organizations whose key has more than one version."""
    query = select(data_keys.c.organization).group_by(data_keys.c.organization).having(func.count() > 1)
    return list(session.execute(query).scalars())


def _older(
    session: ReadSession, *, organization: str, column: SealedColumn, prefixes: Sequence[bytes], after: Row | None
) -> list[tuple[Row, int]]:
    """Primary keys of values that an older version has sealed, and the size of each, in order."""
    value = column.table.c[column.column]
    begins = func.substr(value, 1, len(prefixes[0]), type_=LargeBinary)
    query = select(*column.key, func.length(value)).where(
        column.table.c.organization == organization, value.is_not(None), begins.not_in(prefixes)
    )
    if after is not None:
        last = (bindparam(None, part, type_=key.type) for key, part in zip(column.key, after, strict=True))
        query = query.where(tuple_(*column.key) > tuple_(*last))
    rows = session.execute(query.order_by(*column.key).limit(ROWS_LOOKED_AT))
    return [(tuple(row[:-1]), row[-1]) for row in rows]


def _batches(found: Sequence[tuple[Row, int]]) -> Iterator[list[Row]]:
    """As many rows as a transaction may take, and at least one."""
    batch: list[Row] = []
    size = 0
    for key, length in found:
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += length
    yield batch
