"""Replaces keys while everything runs."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from control_api.encryption.resealing import Resealing
from control_api.encryption.schemas import EncryptionView, Source
from control_api.journal.tokens import LIFETIME, Tokens
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.keys import InstallationKey, OrganizationKeys
from control_api.store.tables import data_keys
from domain.ports import MasterKeys
from orchestrator_runtime.contract.errors import Conflict


class EncryptionService:
    def __init__(
        self,
        *,
        database: Database,
        keys: OrganizationKeys,
        masters: MasterKeys,
        source: Source,
        tokens: Tokens,
        resealing: Resealing,
    ) -> None:
        self._database = database
        self._keys = keys
        self._masters = masters
        self._source = source
        self._tokens = tokens
        self._resealing = resealing
        self._rotating = asyncio.Lock()

    async def look(self, organization: str) -> EncryptionView:
        def read(session: ReadSession) -> EncryptionView:
            installation = InstallationKey.stored(session)
            assert installation is not None, "the start has stored one"
            query = select(data_keys.c.version, data_keys.c.created_at).where(data_keys.c.organization == organization)
            newest, *former = session.execute(query.order_by(data_keys.c.version.desc())).all()
            return EncryptionView(
                source=self._source,
                master=installation.master,
                master_since=installation.created_at,
                version=newest.version,
                since=newest.created_at,
                former_versions=len(former),
                unreadable=self._resealing.unreadable.get(organization, 0),
            )

        return await self._database.read(read)

    async def rotate(self, organization: str) -> EncryptionView:
        """Give the organization a new key. Raises `Conflict` (`rotation_unfinished`)."""

        def add(session: WriteSession) -> int:
            versions = select(data_keys.c.version).where(data_keys.c.organization == organization)
            if len(session.execute(versions).all()) > 1:
                raise Conflict(
                    "The rotation before is not finished yet",
                    code="rotation_unfinished",
                    hint="`orchestrator encryption status` says how far it is; then try again.",
                )
            return self._keys.add_version(session, organization)

        version = await self._database.write(add)
        self._keys.forget(organization, before=version)
        self._resealing.wake()
        return await self.look(organization)

    async def rotate_master(self, organization: str) -> EncryptionView:
        """Replace the master key, the installation key and the key of tokens. Raises what the master keys raise.

        One transaction changes the database, and before it the new master key is where it stays: cut off anywhere, the
        next start finds the one of the two that the database names.
        """
        async with self._rotating:
            await self._settle()
            master = await asyncio.to_thread(self._masters.renew)
            version = self._keys.installation.version + 1
            installation = await asyncio.to_thread(InstallationKey.make, version, master)
            self._keys.expect(installation)
            try:
                await self._database.write(lambda session: self._keys.rewrap(session, installation))
            finally:
                await self._settle()
        return await self.look(organization)

    async def _settle(self) -> None:
        """Go on with what is committed."""

        def read(session: ReadSession) -> tuple[str, list[bytes]]:
            self._keys.settle(session)
            stored = InstallationKey.stored(session)
            assert stored is not None, "every start makes one"
            return stored.master, self._keys.token_keys(session, lifetime=LIFETIME)

        master, tokens = await self._database.read(read)
        self._tokens.replace(*tokens)
        await asyncio.to_thread(self._masters.settle, master)
