"""Sessions: conversations, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

from control_api.journal import sessions as journal_sessions
from control_api.journal.stored_checkpoints import CheckpointReader
from control_api.paging import Page, decode_cursor, encode_cursor
from control_api.sessions import repository
from control_api.sessions.repository import Position
from control_api.sessions.schemas import SessionDetails, SessionView
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from orchestrator_runtime.contract.errors import BadInput, Conflict, NotFound


class SessionsService:
    def __init__(self, *, database: Database, keys: OrganizationKeys) -> None:
        self._database = database
        self._keys = keys

    async def page(self, organization: str, *, agent: str | None, cursor: str | None, limit: int) -> Page[SessionView]:
        """Sessions, the one with the newest run first. Raises `BadInput` (`cursor_invalid`)."""
        after = _position(cursor)
        rows = await self._database.read(
            lambda session: repository.newest(session, organization, agent=agent, after=after, limit=limit + 1)
        )
        following = None
        if len(rows) > limit:
            moment, *names = rows[limit - 1][0]
            following = encode_cursor(repr(moment), *names)
        return Page(items=[view for _, view in rows[:limit]], next=following)

    async def get(self, organization: str, agent: str, name: str) -> SessionDetails:
        """Raises `NotFound` (`session_unknown`)."""

        def read(session: ReadSession) -> SessionDetails:
            row = repository.find(session, organization, agent, name)
            if row is None:
                raise _unknown(agent, name)
            kept = journal_sessions.read_state(
                session, keys=self._keys, organization=organization, agent=agent, name=name
            )
            if kept is None:
                reader = CheckpointReader(session, keys=self._keys, organization=organization, agent=agent)
                state = reader.projection(name)
                size = repository.checkpoint_bytes(session, organization, agent, name)
            else:
                state, size = _json(kept), len(kept)
            return SessionDetails(**repository.members(row), state=state, state_bytes=size)

        return await self._database.read(read)

    async def delete(self, organization: str, agent: str, name: str) -> None:
        """Forget a session and its state; its runs stay.

        Raises `NotFound` (`session_unknown`), `Conflict` (`session_busy`) while a run of it has not ended.
        """

        def write(session: WriteSession) -> None:
            if repository.find(session, organization, agent, name) is None:
                raise _unknown(agent, name)
            if repository.has_open_runs(session, organization, agent, name):
                raise Conflict(
                    f"The session {name} has runs that have not ended",
                    code="session_busy",
                    hint="Wait for them, or end them with `orchestrator runs cancel`.",
                )
            repository.remove(session, organization, agent, name)

        await self._database.write(write)


def _unknown(agent: str, name: str) -> NotFound:
    return NotFound(
        f"{agent} has no session {name}", code="session_unknown", hint="`orchestrator sessions ls` lists them."
    )


def _position(cursor: str | None) -> Position | None:
    key = decode_cursor(cursor, length=3)
    if key is None:
        return None
    try:
        return float(key[0]), str(key[1]), str(key[2])
    except ValueError as error:  # a cursor of another list
        raise BadInput(
            "The cursor is not one of ours", code="cursor_invalid", hint="Start without a cursor."
        ) from error


def _json(state: bytes) -> Any:
    """The state as JSON; None for what a framework writes in another form."""
    try:
        return json.loads(state)
    except ValueError:  # of a framework's own form
        return None
