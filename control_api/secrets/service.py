"""Keeps secrets in versions: each value sealed with its organization's key and bound to the name it was stored under,
or a reference to a value outside.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_api.paging import Page, page_of
from control_api.secrets import repository
from control_api.secrets.outside import OutsideValues
from control_api.secrets.schemas import SecretVersionView, SecretView
from control_api.store.database import Database, ReadSession, WriteSession
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Conflict, NotFound


class SecretsService:
    def __init__(self, *, database: Database, keys: OrganizationKeys, clock: Clock, outside: OutsideValues) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._outside = outside

    async def put(self, organization: str, name: str, value: str) -> None:
        """Set a secret. Instances that start from now on get it; those that live keep what they have."""

        def store(session: WriteSession) -> None:
            sealed = self._keys.of(session, organization).seal(value.encode(), secret_context(name))
            repository.put(session, organization, name, sealed=sealed, reference=None, now=self._clock.now())

        await self._database.write(store)

    async def refer(self, organization: str, name: str, reference: str) -> None:
        """Let a secret be a value outside, read once to see that it is there. Raises what `OutsideValues` raises."""
        await self._outside.read(organization, reference)
        now = self._clock.now()
        await self._database.write(
            lambda session: repository.put(session, organization, name, sealed=None, reference=reference, now=now)
        )

    async def page(self, organization: str, *, after: str | None, limit: int) -> Page[SecretView]:
        rows = await self._database.read(
            lambda session: repository.page(session, organization, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda secret: (secret.name,))

    async def versions(self, organization: str, name: str) -> Page[SecretVersionView]:
        """All that are kept, newest first. Raises `NotFound` (`secret_unknown`)."""
        found = await self._database.read(lambda session: repository.versions(session, organization, name))
        if not found:
            raise unknown(name)
        return Page(items=found, next=None)

    async def roll_back(self, organization: str, name: str, version: int) -> SecretView:
        """Use a version again. Raises `NotFound` (`secret_unknown`, `secret_version_unknown`)."""

        def change(session: WriteSession) -> SecretView:
            _version(session, organization, name, version)
            repository.use(session, organization, name, version, now=self._clock.now())
            view = repository.find(session, organization, name)
            assert view is not None
            return view

        return await self._database.write(change)

    async def remove(self, organization: str, name: str) -> None:
        """With all versions. Raises `NotFound` (`secret_unknown`)."""
        if not await self._database.write(lambda session: repository.remove(session, organization, name)):
            raise unknown(name)

    async def remove_version(self, organization: str, name: str, version: int) -> None:
        """Raises `NotFound` (`secret_unknown`, `secret_version_unknown`), `Conflict` (`secret_version_in_use`)."""

        def change(session: WriteSession) -> None:
            if _version(session, organization, name, version).in_use:
                raise Conflict(
                    f"Version {version} of {name} is in use",
                    code="secret_version_in_use",
                    hint="Set the secret anew, or roll back to another version, then remove this one.",
                )
            repository.remove_version(session, organization, name, version)

        await self._database.write(change)

    # for the platform, never for a caller of the API

    async def names(self, organization: str) -> list[str]:
        return await self._database.read(lambda session: repository.names(session, organization))

    async def values(self, organization: str, names: Sequence[str]) -> dict[str, str]:
        """The values behind `names`. Raises `Conflict` (`secret_missing`) naming those that do not exist, and for a
        value outside what `OutsideValues` raises.
        """

        def load(session: ReadSession) -> tuple[dict[str, str], dict[str, str]]:
            found = repository.in_use(session, organization, names)
            sealed = {row.name: bytes(row.sealed) for row in found if row.sealed is not None}
            key = self._keys.of(session, organization) if sealed else None
            opened = {name: key.open(value, secret_context(name)).decode() for name, value in sealed.items() if key}
            return opened, {row.name: row.reference for row in found if row.sealed is None}

        values, references = await self._database.read(load) if names else ({}, {})
        for name, reference in references.items():
            values[name] = await self._outside.read(organization, reference)
        missing = [name for name in names if name not in values]
        if missing:
            raise Conflict(
                f"The agent names secrets that do not exist: {', '.join(missing)}",
                code="secret_missing",
                hint=f"`orchestrator secrets set {missing[0]}` sets one; then deploy again.",
                secrets=missing,
            )
        return values


def unknown(name: str) -> NotFound:
    return NotFound(f"There is no secret {name}", code="secret_unknown", hint="`orchestrator secrets ls` lists them.")


def _version(session: ReadSession, organization: str, name: str, version: int) -> SecretVersionView:
    found = repository.versions(session, organization, name)
    if not found:
        raise unknown(name)
    for one in found:
        if one.version == version:
            return one
    raise NotFound(
        f"{name} has no version {version}",
        code="secret_version_unknown",
        hint=f"`orchestrator secrets versions {name}` lists those that are kept.",
    )


def secret_context(name: str) -> bytes:
    return f"secret/{name}".encode()
