"""Finds the agent that an operation is about, for `control_api.authorization`."""

from __future__ import annotations

from sqlalchemy import select

from control_api.agents import rows
from control_api.authorization import Ownership
from control_api.journal.reading import run_unknown
from control_api.store.database import Database, ReadSession
from control_api.store.tables import runs


class AgentAccess:
    """Implements `authorization.Access`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_agent(self, organization: str, name: str) -> Ownership:
        return await self._database.read(lambda session: rows.ownership(session, organization, name))

    async def of_run(self, organization: str, run: str) -> Ownership | None:
        def read(session: ReadSession) -> Ownership | None:
            query = select(runs.c.agent).where(runs.c.organization == organization, runs.c.id == run)
            name = session.execute(query).scalar_one_or_none()
            if name is None:
                raise run_unknown(run)
            return rows.find(session, organization, name)

        return await self._database.read(read)
