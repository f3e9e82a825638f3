"""Writes down when keys were used last: late and many at once, so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging

from control_api.authorization import Credentials
from control_api.keys import repository
from control_api.store.database import Database
from orchestrator_runtime.contract.errors import Problem

logger = logging.getLogger("keys")

EVERY = 5.0  # seconds


class KeyUse:
    def __init__(self, database: Database, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials

    async def run(self) -> None:
        """Write again and again until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.write()
            except Problem as problem:  # the list of keys shows an older use; nothing else depends on it
                logger.warning("When keys were used was not written: %s", problem.detail)

    async def write(self) -> None:
        """Write what has come together. Raises `Unavailable`."""
        used = self._credentials.take_used()
        if used:
            await self._database.write(lambda session: repository.note_used(session, used))
