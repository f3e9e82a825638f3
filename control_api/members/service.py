"""Changes the roles of members and lets them go. There is always an owner, and nobody gives or takes what they lack."""

from __future__ import annotations

from control_api.authorization import Credential, require_below
from control_api.members import repository
from control_api.members.schemas import MemberView
from control_api.organizations import principals
from control_api.organizations import repository as organizations
from control_api.organizations.directory import Directory
from control_api.paging import Page, page_of
from control_api.store.database import Database, WriteSession
from domain.clock import Clock
from domain.roles import Role
from orchestrator_runtime.contract.errors import Conflict


class MembersService:
    def __init__(self, *, database: Database, directory: Directory, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    async def page(self, caller: Credential, *, after: str | None, limit: int) -> Page[MemberView]:
        rows = await self._database.read(
            lambda session: repository.page(session, caller.organization, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda member: (member.id,))

    async def set_role(self, caller: Credential, member: str, role: Role) -> MemberView:
        """Raises `NotFound` (`member_unknown`), `Forbidden` (`role_above`) or `Conflict` (`last_owner`)."""

        def change(session: WriteSession) -> MemberView:
            found = self._require(session, caller, member, keep_owner=role is not Role.OWNER)
            require_below(caller, role)
            if role is not found.role:
                repository.set_role(session, caller.organization, member, role)
                principals.revoke_invitations(session, caller.organization, member, now=self._clock.now())
            return repository.require(session, caller.organization, member)

        return await self._directory.change_in(caller.organization, change)

    async def remove(self, caller: Credential, member: str) -> None:
        """Their keys stop at once; their agents are the caller's from now on. Raises as `set_role` does."""

        def change(session: WriteSession) -> None:
            self._require(session, caller, member, keep_owner=True)
            repository.remove(session, caller.organization, member)
            principals.leave(session, caller.organization, member, by=caller.principal, now=self._clock.now())

        await self._directory.change_in(caller.organization, change)

    def _require(self, session: WriteSession, caller: Credential, member: str, *, keep_owner: bool) -> MemberView:
        """The member, if the caller may change it. `keep_owner`: it will not be an owner any more."""
        found = repository.require(session, caller.organization, member)
        require_below(caller, found.role)
        if keep_owner and organizations.owners(session, caller.organization) == [member]:
            raise Conflict(
                f"{found.name} is the only owner of the organization",
                code="last_owner",
                hint="Make somebody else an owner first: `orchestrator members role MEMBER owner`.",
            )
        return found
