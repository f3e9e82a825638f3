"""Moves what nobody works on: leases that ran out, attempts beyond their time, cancels that were not obeyed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import delete

from control_api.journal import reading
from control_api.journal.operations import Expire, WakeSession
from control_api.journal.service import Journal
from control_api.store.database import WriteSession
from control_api.store.tables import identities
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem

logger = logging.getLogger("sweeper")

StopInstance = Callable[[dict[str, Any]], Awaitable[None]]
"""Gets {organization, revision, instance, grace}: the instance does not stop what it was told to stop."""

INTERVAL = 1.0  # seconds between two looks
IDENTITY_WINDOW = timedelta(days=7)  # how long an Idempotency-Key is known
PRUNE_INTERVAL = 3600.0  # seconds


class Sweeper:
    """One per installation. `stop_instance` replaces an instance whose code yields neither to a cancel nor to time."""

    def __init__(self, journal: Journal, clock: Clock, stop_instance: StopInstance) -> None:
        self._journal = journal
        self._clock = clock
        self._stop_instance = stop_instance
        self._stopping: set[asyncio.Task[None]] = set()
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
        expiring = [journal.execute(Expire(attempt.organization, attempt.run, attempt.epoch)) for attempt in expired]
        waking = [journal.execute(WakeSession(*key)) for key in stuck]
        replies = await asyncio.gather(*expiring)
        await asyncio.gather(*waking)
        abandoned = {reply.fields["instance"]: reply.fields for reply in replies if reply.fields}
        for fields in abandoned.values():
            task = asyncio.create_task(self._stop(fields))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        if self._clock.monotonic() - self._pruned_at >= PRUNE_INTERVAL:
            self._pruned_at = self._clock.monotonic()
            await journal.database.write(self._prune)

    async def settle(self) -> None:
        """Wait until every instance that was to be replaced is."""
        await asyncio.gather(*self._stopping)

    async def _stop(self, fields: dict[str, Any]) -> None:
        logger.warning("%s does not stop what it was told to: it is replaced", fields["instance"])
        try:
            await self._stop_instance(fields)
        except Problem as problem:  # it has gone, or whoever could stop it has: then it goes with that
            logger.warning("%s could not be stopped: %s", fields["instance"], problem)

    def _prune(self, session: WriteSession) -> None:
        oldest = self._clock.now() - IDENTITY_WINDOW
        session.execute(delete(identities).where(identities.c.created_at < oldest))
