"""Decides who may do what with one agent: hands it over, and grants roles on it."""

from __future__ import annotations

from control_api.agents import rows
from control_api.authorization import Credential
from control_api.changes import Changes, agent_topic
from control_api.grants import repository
from control_api.grants.schemas import GrantView
from control_api.organizations import principals
from control_api.organizations.directory import Directory
from control_api.organizations.principals import PrincipalView
from control_api.paging import Page, page_of
from control_api.store.database import Database, ReadSession, WriteSession
from domain.clock import Clock
from domain.roles import EVERYWHERE, MAKES_AGENTS
from orchestrator_runtime.contract.errors import Conflict, NotFound


class GrantsService:
    def __init__(self, *, database: Database, directory: Directory, changes: Changes, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._changes = changes
        self._clock = clock

    async def page(self, caller: Credential, name: str, *, after: str | None, limit: int) -> Page[GrantView]:
        """Raises `NotFound` (`agent_unknown`), as everything here does."""

        def read(session: ReadSession) -> list[GrantView]:
            agent = rows.require(session, caller.organization, name)
            return repository.page(session, caller.organization, agent, after=after, limit=limit + 1)

        return page_of(await self._database.read(read), limit=limit, key=lambda grant: (grant.principal.id,))

    async def put(self, caller: Credential, name: str, principal: str, role: str) -> None:
        """Raises `NotFound` (`principal_unknown`)."""
        now = self._clock.now()

        def change(session: WriteSession) -> None:
            agent = rows.require(session, caller.organization, name)
            principals.require(session, caller.organization, principal)
            repository.put(session, caller.organization, agent, principal, role, created_by=caller.principal, now=now)

        await self._directory.change_in(caller.organization, change)

    async def remove(self, caller: Credential, name: str, principal: str) -> None:
        """Raises `NotFound` (`grant_unknown`)."""

        def change(session: WriteSession) -> None:
            agent = rows.require(session, caller.organization, name)
            if not repository.remove(session, caller.organization, agent, principal):
                raise NotFound(
                    f"{principal} has no grant on {name}",
                    code="grant_unknown",
                    hint=f"`orchestrator grants ls {name}` lists them.",
                )

        await self._directory.change_in(caller.organization, change)

    async def hand_over(self, caller: Credential, name: str, principal: str) -> PrincipalView:
        """Make somebody else the owner. Raises `NotFound` (`principal_unknown`) or `Conflict` (`owner_makes_none`)."""
        now = self._clock.now()

        def change(session: WriteSession) -> PrincipalView:
            agent = rows.require(session, caller.organization, name)
            role = principals.require(session, caller.organization, principal)
            if MAKES_AGENTS not in EVERYWHERE[role]:
                raise Conflict(
                    f"The role {role} may not make agents, so it may not own one",
                    code="owner_makes_none",
                    hint="Give them the role developer first, or grant them a role on this agent.",
                )
            repository.set_owner(session, agent, principal, now=now)
            return principals.views(session, caller.organization, [principal])[principal]

        owner = await self._database.write(change)
        self._changes.publish(agent_topic(caller.organization, name))
        return owner
