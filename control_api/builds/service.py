"""Shows builds. They are made by deployments and done by the reconciler."""

from __future__ import annotations

from control_api.builds import repository
from control_api.builds.schemas import BuildView
from control_api.paging import Page, page_of
from control_api.store.database import Database
from orchestrator_runtime.contract.errors import NotFound


class BuildsService:
    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def page(self, organization: str, *, agent: str | None, after: str | None, limit: int) -> Page[BuildView]:
        rows = await self._database.read(
            lambda session: repository.page(session, organization, agent=agent, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda build: (build.id,))

    async def get(self, organization: str, build: str) -> BuildView:
        """Raises `NotFound` (`build_unknown`)."""
        found = await self._database.read(lambda session: repository.find(session, organization, build))
        if found is None:
            raise _unknown(build)
        return found

    async def log(self, organization: str, build: str) -> str:
        """Everything that was said so far. Raises `NotFound` (`build_unknown`)."""
        found = await self._database.read(lambda session: repository.log(session, organization, build))
        if found is None:
            raise _unknown(build)
        return found


def _unknown(build: str) -> NotFound:
    return NotFound(f"There is no build {build}", code="build_unknown", hint="GET /api/v1/builds lists them.")
