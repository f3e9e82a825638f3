"""Who is who, in memory: the credentials of every organization and its name, as the last commit left them.

Whatever changes members, roles, keys, grants or names does it through `change`, so that nobody is let in by what was
true before: API and gateway know of a change before whoever made it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from control_api.authorization import Credential, Credentials
from control_api.organizations import credentials, repository
from control_api.organizations.repository import Organization
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.tables import organizations
from domain.clock import Clock

Result = TypeVar("Result")


async def nobody() -> None:
    """There is nobody to tell."""


class Directory:
    """`tell` is awaited after each change, before it counts as done: it tells the gateway."""

    @classmethod
    async def load(cls, database: Database, *, clock: Clock) -> Directory:
        """From a database that has its first organization."""

        def read(session: ReadSession) -> tuple[Credentials, dict[str, str], Organization | None]:
            names = {row.id: row.name for row in session.execute(organizations.select())}
            return Credentials(credentials.load(session), clock=clock), names, repository.first(session)

        loaded, names, first = await database.read(read)
        assert first is not None, "`owner.ensure` has made one"
        return cls(database, credentials=loaded, names=names, first=first.id)

    def __init__(self, database: Database, *, credentials: Credentials, names: dict[str, str], first: str) -> None:
        self._database = database
        self._names = names
        self.credentials = credentials
        self.first = first
        self.tell: Callable[[], Awaitable[None]] = nobody

    def name_of(self, organization: str) -> str:
        return self._names[organization]

    async def change(
        self, work: Callable[[WriteSession], Result], touched: Callable[[Result], Iterable[str]]
    ) -> Result:
        """Do `work` in one transaction; the organizations that its result `touched` are known anew when this returns.

        They are also if whoever asked has gone by then. Raises what `work` raised.
        """
        return await asyncio.shield(asyncio.ensure_future(self._change(work, touched)))

    async def change_in(self, organization: str, work: Callable[[WriteSession], Result]) -> Result:
        """As `change`, of one organization."""
        return await self.change(work, lambda result: [organization])

    async def _change(
        self, work: Callable[[WriteSession], Result], touched: Callable[[Result], Iterable[str]]
    ) -> Result:
        def do(session: WriteSession) -> Result:
            seen.clear()  # what a commit that failed had seen
            result = work(session)
            seen.extend(
                (one, repository.get(session, one).name, credentials.load(session, one)) for one in touched(result)
            )
            return result

        seen: list[tuple[str, str, list[Credential]]] = []
        result = await self._database.write(do)
        for organization, name, found in seen:
            self._names[organization] = name
            self.credentials.replace(organization, found)
        await self.tell()
        return result
