"""Keys, a database and what rotates them, put together as a server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from control_api.encryption.opening import open_keys
from control_api.encryption.resealing import Resealing
from control_api.encryption.service import EncryptionService
from control_api.journal.tokens import LIFETIME, Tokens
from control_api.store.database import Database, open_database
from control_api.store.keys import OrganizationKeys
from domain.ports import MasterKeys
from tests.fakes.manual_clock import ManualClock

ORGANIZATION = "org-1"
CLOCK = ManualClock()


@dataclass(slots=True)
class Started:
    database: Database
    keys: OrganizationKeys
    tokens: Tokens
    resealing: Resealing
    service: EncryptionService


@asynccontextmanager
async def started(url: str, masters: MasterKeys) -> AsyncIterator[Started]:
    """From the start of a server to its end. Raises what a start raises."""
    keys = await asyncio.to_thread(open_keys, url, masters, clock=CLOCK)
    database = open_database(url)
    try:
        signing = await database.read(lambda session: keys.token_keys(session, lifetime=LIFETIME))
        tokens = Tokens(*signing, clock=CLOCK)
        resealing = Resealing(database=database, keys=keys, sleep=lambda seconds: asyncio.sleep(0))
        service = EncryptionService(
            database=database, keys=keys, masters=masters, source="file", tokens=tokens, resealing=resealing
        )
        yield Started(database, keys, tokens, resealing, service)
    finally:
        await database.close()
