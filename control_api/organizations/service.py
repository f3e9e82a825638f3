"""The organization of whoever asks, and who that is."""

from __future__ import annotations

from control_api.authorization import Credential
from control_api.organizations import principals, repository
from control_api.organizations.directory import Directory
from control_api.organizations.repository import Organization
from control_api.organizations.schemas import MembershipView, OrganizationView, SelfView
from control_api.paging import Page, page_of
from control_api.store.database import Database, ReadSession


class OrganizationsService:
    def __init__(self, *, database: Database, directory: Directory) -> None:
        self._database = database
        self._directory = directory

    async def get(self, caller: Credential) -> OrganizationView:
        return view(await self._database.read(lambda session: repository.get(session, caller.organization)))

    async def rename(self, caller: Credential, name: str) -> OrganizationView:
        """Its hosts are called after it from now on. Raises `Conflict` (`name_taken`)."""
        await self._directory.change_in(
            caller.organization, lambda session: repository.rename(session, caller.organization, name)
        )
        return await self.get(caller)

    async def mine(self, caller: Credential, *, after: str | None, limit: int) -> Page[MembershipView]:
        """Every organization of the person who asks, by name; of a service account its only one."""

        def read(session: ReadSession) -> list[MembershipView]:
            found = repository.memberships(session, caller.principal) or [
                (repository.get(session, caller.organization), caller.role)
            ]
            return [
                MembershipView(
                    id=one.id,
                    name=one.name,
                    created_at=one.created_at,
                    role=role,
                    current=one.id == caller.organization,
                )
                for one, role in found
                if after is None or one.name > after
            ]

        return page_of(await self._database.read(read), limit=limit, key=lambda one: (one.name,))

    async def who(self, caller: Credential) -> SelfView:
        def read(session: ReadSession) -> SelfView:
            return SelfView(
                principal=principals.views(session, caller.organization, [caller.principal])[caller.principal],
                organization=view(repository.get(session, caller.organization)),
                role=caller.role,
                permissions=sorted(caller.permissions),
                key=caller.id,
                scopes=None if caller.scopes is None else sorted(caller.scopes),
                expires_at=caller.expires_at,
            )

        return await self._database.read(read)


def view(organization: Organization) -> OrganizationView:
    return OrganizationView(id=organization.id, name=organization.name, created_at=organization.created_at)
