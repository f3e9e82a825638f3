"""Moves what nobody works on: leases that ran out, attempts beyond their time, cancels that were not obeyed."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial

from sqlalchemy import delete

from control_api.journal import reading
from control_api.journal.operations import Expire, WakeSession
from control_api.journal.service import Journal
from control_api.store.database import WriteSession
from control_api.store.tables import identities
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem

logger = logging.getLogger("sweeper")

INTERVAL = 1.0  # seconds between two looks
IDENTITY_WINDOW = timedelta(days=7)  # how long an Idempotency-Key is known
PRUNE_INTERVAL = 3600.0  # seconds


class Sweeper:
    """One per installation."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._pruned_at = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.sweep()
            except Problem as problem:  # the database; the next look may go better
                logger.warning("could not sweep: %s", problem)
            await asyncio.sleep(INTERVAL)

    async def sweep(self) -> None:
        """Look once at everything that may have run out."""
        journal = self._journal
        expired = await journal.database.read(partial(reading.expired, now=self._clock.now()))
        stuck = await journal.database.read(reading.stuck_in_sessions)
        operations = [
            *(Expire(attempt.organization, attempt.run, attempt.epoch) for attempt in expired),
            *(WakeSession(*key) for key in stuck),
        ]
        await asyncio.gather(*(journal.execute(operation) for operation in operations))
        if self._clock.monotonic() - self._pruned_at >= PRUNE_INTERVAL:
            self._pruned_at = self._clock.monotonic()
            await journal.database.write(self._prune)

    def _prune(self, session: WriteSession) -> None:
        oldest = self._clock.now() - IDENTITY_WINDOW
        session.execute(delete(identities).where(identities.c.created_at < oldest))
