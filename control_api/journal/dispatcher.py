"""Sends runs to instances that nobody else sends: asynchronous calls, retries, and what a lost instance had.

A run counts as sent from the moment it is handed over until an instance is admitted to it, and only so long does it
take one of the `AT_ONCE` places. What could not be sent waits and is tried again; it fails for good only for what no
repetition can mend, or after `REFUSALS` answers that were not just "try again later".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from control_api.journal import reading
from control_api.journal.operations import NotSent
from control_api.journal.reading import Attempt
from control_api.journal.records import Run
from control_api.journal.service import Journal
from orchestrator_runtime.contract.errors import BadGateway, BadInput, Problem, TooMany, Unavailable, from_document
from orchestrator_runtime.contract.states import WaitReason
from orchestrator_runtime.contract.wire import Message

logger = logging.getLogger("dispatcher")

Send = Callable[[dict[str, Any], bytes], Awaitable[Message]]
"""Hands a run to an instance (`run.dispatch`), and returns when that has answered."""

AT_ONCE = 1000  # runs that are sent and not yet admitted
OF_ONE_AGENT = 500  # so that one agent that gets no instance does not hold up the others
LONGEST_LOOK = 5.0  # seconds between two looks at the database; a due time or a commit brings the next one forward
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0  # seconds until a run that was refused is sent again
REFUSALS = 8


class Dispatcher:
    """`send` is the platform's. One per installation."""

    def __init__(self, journal: Journal, send: Send) -> None:
        self._journal = journal
        self._send = send
        self._due = asyncio.Event()
        self._places: dict[tuple[str, str, int], Attempt] = {}  # sent, not admitted: by organization, run, epoch
        self._tries: Counter[tuple[str, str]] = Counter()  # of runs that could not be sent
        self._refusals: Counter[tuple[str, str]] = Counter()  # those for which time alone is no cure
        self._tasks: set[asyncio.Task[None]] = set()
        journal.on_change(self._changed)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._due.clear()
                pause = LONGEST_LOOK
                try:
                    pause = await self.look()
                except Problem as problem:  # the database; what is due stays due
                    logger.warning("could not look for runs to send: %s", problem)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), pause)
        finally:
            await self.close()

    async def close(self) -> None:
        """Give up what is being sent; it stays due."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> float:
        """Send what is due, as far as there are places; returns the seconds until there may be more."""
        now = self._journal.clock.now()
        taken = Counter((attempt.organization, attempt.agent) for attempt in self._places.values())
        find = partial(
            reading.due,
            now=now,
            limit=2 * AT_ONCE,
            except_agents=[agent for agent, count in taken.items() if count >= OF_ONE_AGENT],
        )
        found, following = await self._journal.database.read(find)
        for attempt in found:
            agent = (attempt.organization, attempt.agent)
            place = (attempt.organization, attempt.run, attempt.epoch)
            if len(self._places) >= AT_ONCE:
                break
            if place not in self._places and taken[agent] < OF_ONE_AGENT:
                taken[agent] += 1
                self._places[place] = attempt
                task = asyncio.create_task(self._dispatch(attempt))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        until_next = (following - now).total_seconds() if following is not None else LONGEST_LOOK
        return min(until_next, LONGEST_LOOK)

    async def _dispatch(self, attempt: Attempt) -> None:
        place = (attempt.organization, attempt.run, attempt.epoch)
        try:
            read = partial(reading.dispatch, attempt=attempt, keys=self._journal.keys)
            message = await self._journal.database.read(read)
            if message is None:
                return
            reply = await self._send(message.fields, message.body)
            if place in self._places:
                status = reply.fields.get("status")
                raise BadGateway(f"The instance answered {status} and did not take the run", code="run_not_taken")
        except Problem as problem:
            if place in self._places:  # else an instance has it: what becomes of it is that one's affair
                await self._refused(attempt, problem)
        finally:
            self._free(place)

    async def _refused(self, attempt: Attempt, problem: Problem) -> None:
        run = (attempt.organization, attempt.run)
        delay = min(FIRST_DELAY * 2.0 ** min(self._tries[run], 10), LONGEST_DELAY)
        self._tries[run] += 1
        self._refusals[run] += not _passes(problem)
        final = isinstance(problem, BadInput) or self._refusals[run] >= REFUSALS
        until = None if final else (self._journal.clock.now() + timedelta(seconds=delay)).timestamp()
        try:
            await self._journal.execute(NotSent(*run, attempt.epoch, problem, until))
        except Problem as error:  # the database; the run stays due
            logger.warning("could not note that run %s was not sent: %s", attempt.run, error)

    def _changed(self, touched: Sequence[Run]) -> None:
        for run in touched:
            if run.wait_reason in (WaitReason.DISPATCH, WaitReason.RETRY):
                self._due.set()
                continue
            self._tries.pop((run.organization, run.id), None)
            self._refusals.pop((run.organization, run.id), None)
            if run.running and self._places:
                self._free((run.organization, run.id, run.epoch - 1))

    def _free(self, place: tuple[str, str, int]) -> None:
        if self._places.pop(place, None) is not None:
            self._due.set()


def _passes(problem: Problem) -> bool:
    """Whether it is just "try again later". An instance that cannot start names what it failed with as the cause."""
    cause = problem.extra.get("cause")
    return isinstance(from_document(cause) if cause else problem, Unavailable | TooMany)
