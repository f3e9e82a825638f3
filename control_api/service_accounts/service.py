"""Makes and removes service accounts. None may do more than whoever made it."""

from __future__ import annotations

from control_api.authorization import Credential, require_below
from control_api.organizations import principals
from control_api.organizations.directory import Directory
from control_api.paging import Page, page_of
from control_api.service_accounts import repository
from control_api.service_accounts.schemas import ServiceAccountView
from control_api.store.database import Database, WriteSession
from domain.clock import Clock
from domain.roles import Role


class ServiceAccountsService:
    def __init__(self, *, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    async def page(self, caller: Credential, *, after: str | None, limit: int) -> Page[ServiceAccountView]:
        rows = await self._database.read(
            lambda session: repository.page(session, caller.organization, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda account: (account.name,))

    async def create(self, caller: Credential, name: str, role: Role) -> ServiceAccountView:
        """Raises `Forbidden` (`role_above`) or `Conflict` (`name_taken`)."""
        require_below(caller, role)
        now = self._clock.now()
        return await self._directory.change_in(
            caller.organization,
            lambda session: repository.create(
                session, caller.organization, name, role, created_by=caller.principal, now=now
            ),
        )

    async def remove(self, caller: Credential, account: str) -> None:
        """Its keys stop at once; its agents are the caller's from now on.

        Raises `NotFound` (`service_account_unknown`) or `Forbidden` (`role_above`).
        """

        def change(session: WriteSession) -> None:
            require_below(caller, principals.require_account(session, caller.organization, account))
            repository.remove(session, caller.organization, account)
            principals.leave(session, caller.organization, account, by=caller.principal, now=self._clock.now())

        await self._directory.change_in(caller.organization, change)
