"""Keeps secrets: each value sealed with its organization's key, and bound to the name it was stored under."""

from __future__ import annotations

from collections.abc import Sequence

from control_api.paging import Page, page_of
from control_api.secrets import repository
from control_api.secrets.schemas import SecretView
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Conflict, NotFound


class SecretsService:
    def __init__(self, *, database: Database, keys: OrganizationKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def put(self, organization: str, name: str, value: str) -> None:
        """Set a secret. Instances that start from now on get it; those that live keep what they have."""

        def store(session: WriteSession) -> None:
            sealed = self._keys.of(session, organization).seal(value.encode(), _context(name))
            repository.put(session, organization, name, sealed=sealed, now=self._clock.now())

        await self._database.write(store)

    async def page(self, organization: str, *, after: str | None, limit: int) -> Page[SecretView]:
        rows = await self._database.read(
            lambda session: repository.page(session, organization, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda secret: (secret.name,))

    async def remove(self, organization: str, name: str) -> None:
        """Raises `NotFound` (`secret_unknown`)."""
        if not await self._database.write(lambda session: repository.remove(session, organization, name)):
            raise NotFound(
                f"There is no secret {name}", code="secret_unknown", hint="`orchestrator secrets ls` lists them."
            )

    # for the platform, never for a caller of the API

    async def names(self, organization: str) -> list[str]:
        return await self._database.read(lambda session: repository.names(session, organization))

    async def values(self, organization: str, names: Sequence[str]) -> dict[str, str]:
        """The values behind `names`. Raises `Conflict` (`secret_missing`) naming those that do not exist."""

        def load(session: ReadSession) -> dict[str, str]:
            found = repository.sealed(session, organization, names)
            key = self._keys.of(session, organization) if found else None
            return {name: key.open(sealed, _context(name)).decode() for name, sealed in found.items() if key}

        values = await self._database.read(load) if names else {}
        missing = [name for name in names if name not in values]
        if missing:
            raise Conflict(
                f"The agent names secrets that do not exist: {', '.join(missing)}",
                code="secret_missing",
                hint=f"`orchestrator secrets set {missing[0]}` sets one; then deploy again.",
                secrets=missing,
            )
        return values


def _context(name: str) -> bytes:
    return f"secret/{name}".encode()
