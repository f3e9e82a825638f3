"""Runs: lists, stories, payloads, and the two things that a person can do to one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import RowMapping

from control_api.changes import Changes, run_topic
from control_api.journal import reading
from control_api.journal.service import Journal
from control_api.paging import Page, page_of
from control_api.runs import repository
from control_api.runs.repository import Filter
from control_api.runs.schemas import EventView, RunDetails, RunView, StepView
from control_api.runs.story import steps
from control_api.settings import Settings
from control_api.store.database import Database, ReadSession
from control_api.store.keys import OrganizationKeys
from control_api.streaming import ServerEvent
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, Conflict, NotFound

Result = TypeVar("Result")
BINARY = "application/octet-stream"
EVENTS_AT_ONCE = 500  # of a live stream


@dataclass(frozen=True, slots=True)
class Content:
    """Exactly the bytes that came or went, and what they were declared to be."""

    body: bytes
    content_type: str


class RunsService:
    def __init__(
        self, *, database: Database, keys: OrganizationKeys, journal: Journal, changes: Changes, settings: Settings
    ) -> None:
        self._database = database
        self._keys = keys
        self._journal = journal
        self._changes = changes
        self._settings = settings

    async def page(self, organization: str, wanted: Filter, *, after: str | None, limit: int) -> Page[RunView]:
        """Runs, the newest first."""
        rows = await self._database.read(
            lambda session: repository.newest(session, organization, wanted, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda run: (run.id,))

    async def get(self, organization: str, run: str) -> RunDetails:
        """Raises `NotFound` (`run_unknown`), as everything here does."""
        return await self._with(organization, run, repository.details)

    async def steps(self, organization: str, run: str, *, after: str | None, limit: int) -> Page[StepView]:
        """Steps in the order in which they began. `after`: how many came before."""
        first = int(after) if after and after.isdigit() else 0
        kinds = ("run.", "step.")
        found = await self._with(organization, run, partial(repository.events, kinds=kinds))
        numbered = list(enumerate(steps(found), 1))[first : first + limit + 1]
        page = page_of(numbered, limit=limit, key=lambda item: (str(item[0]),))
        return Page(items=[step for _, step in page.items], next=page.next)

    async def events(self, organization: str, run: str, *, after: int, limit: int) -> Page[EventView]:
        rows = await self._with(organization, run, partial(repository.events, after=after, limit=limit + 1))
        return page_of(rows, limit=limit, key=lambda event: (str(event.seq),))

    async def follow(self, organization: str, run: str, *, after: int) -> AsyncGenerator[ServerEvent]:
        """Events as they come, from the one after `after` up to the run's end."""

        def read(session: ReadSession, row: RowMapping) -> tuple[list[EventView], bool]:
            found = repository.events(session, row, after=after, limit=EVENTS_AT_ONCE)
            last = found[-1].seq if found else after
            return found, row["ended_at"] is not None and last >= row["event_count"]

        with self._changes.watch(run_topic(run)) as changed:
            while True:
                changed.clear()
                found, over = await self._with(organization, run, read)
                for event in found:
                    after = event.seq
                    yield ServerEvent(event.event, event.model_dump(mode="json"), str(event.seq))
                if over:
                    return
                if not found:
                    with contextlib.suppress(TimeoutError):  # another server's commits set no event here
                        await asyncio.wait_for(changed.wait(), self._settings.runs.event_poll)

    async def input(self, organization: str, run: str) -> Content:
        def read(session: ReadSession, row: RowMapping) -> Content:
            return Content(self._content(session, row, 1), row["request"].get("content_type") or BINARY)

        return await self._with(organization, run, read)

    async def output(self, organization: str, run: str) -> Content:
        """What the run answered, or its problem if it had no answer of its own.

        Raises `Conflict` (`run_not_ended`).
        """

        def read(session: ReadSession, row: RowMapping) -> Content:
            if row["ended_at"] is None:
                raise Conflict(
                    f"Run {run} is {row['state']}",
                    code="run_not_ended",
                    hint=f"Follow it with `orchestrator runs follow {run}`.",
                )
            body = self._content(session, row, row["event_count"])
            if not body and row["problem"] is not None:
                return Content(json.dumps(row["problem"], ensure_ascii=False).encode(), PROBLEM_CONTENT_TYPE)
            return Content(body, (row["answer"] or {}).get("content_type") or BINARY)

        return await self._with(organization, run, read)

    async def content(self, organization: str, run: str, seq: int) -> Content:
        """The content of one event. Raises `NotFound` (`event_unknown`)."""

        def read(session: ReadSession, row: RowMapping) -> Content:
            if not 1 <= seq <= row["event_count"]:
                raise NotFound(
                    f"Run {run} has no event {seq}",
                    code="event_unknown",
                    hint=f"GET /api/v1/runs/{run}/events lists them.",
                )
            declared = row["request"] if seq == 1 else row["answer"]
            known = seq == 1 or (seq == row["event_count"] and row["ended_at"] is not None)
            content_type = (declared or {}).get("content_type") if known else None
            return Content(self._content(session, row, seq), content_type or BINARY)

        return await self._with(organization, run, read)

    async def cancel(self, organization: str, run: str) -> RunDetails:
        """Ask the run to stop; one that nobody works on has ended when this returns."""
        await self._journal.cancel(organization, run)
        return await self.get(organization, run)

    async def retry(self, organization: str, run: str) -> RunDetails:
        """Give a failed run another attempt. Raises `Conflict` (`run_not_failed`)."""
        await self._journal.again(organization, run)
        return await self.get(organization, run)

    async def _with(self, organization: str, run: str, read: Callable[[ReadSession, RowMapping], Result]) -> Result:
        def reading_it(session: ReadSession) -> Result:
            row = repository.find(session, organization, run)
            if row is None:
                raise reading.run_unknown(run)
            return read(session, row)

        return await self._database.read(reading_it)

    def _content(self, session: ReadSession, row: RowMapping, seq: int) -> bytes:
        return reading.content(session, self._keys, row["organization"], row["id"], partition=row["partition"], seq=seq)
