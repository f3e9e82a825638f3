"""Takes in uploaded folders: unpacked, read, checked, and on the disk before anyone is told that they are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path

from builders import manifest as manifests
from control_api.agents import rows as agents
from control_api.authorization import Credential, missing, require_write
from control_api.paging import Page, page_of
from control_api.settings import Settings
from control_api.store.database import Database, WriteSession
from control_api.versions import repository, sources
from control_api.versions.schemas import VersionView
from domain.clock import Clock
from domain.home import Home
from domain.manifest import Manifest
from domain.roles import MAKES_AGENTS
from orchestrator_runtime.contract.errors import NotFound, TooLarge, Unprocessable

MEBIBYTE = 1024 * 1024


class VersionsService:
    """`gpus` and `memory` (bytes): how much the platform can give to one instance; the embedded engine has no GPUs."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        home: Home,
        settings: Settings,
        gpus: int = 0,
        memory: int | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._home = home
        self._limit = settings.deployments.source_limit
        self._gpus = gpus
        self._memory = memory

    def clear_unfinished(self) -> None:
        """Remove what a crash left of uploads; called once, before the first one."""
        sources.clear_unfinished(self._home.organization("x").parent)

    async def upload(self, caller: Credential, chunks: AsyncIterable[bytes]) -> tuple[VersionView, bool]:
        """Store the packed folder that `chunks` are; also says whether it is new. A new agent is the caller's.

        Raises `TooLarge` (`source_too_large`, `bundle_too_large`), `BadInput` (`bundle_invalid`), `Unprocessable`
        (`no_manifest`, `manifest_invalid`) or `Forbidden` (`permission_missing`).
        """
        organization = caller.organization
        data = await self._collect(chunks)
        place = self._home.sources(organization)
        digest, folder = await asyncio.to_thread(sources.unpack, data, place)
        try:
            manifest = await asyncio.to_thread(_read_manifest, folder, self._gpus, self._memory)
            await asyncio.to_thread(sources.keep, folder, place, digest)
        finally:
            await asyncio.to_thread(sources.discard, folder)
        known = await self._database.read(lambda session: repository.find(session, organization, digest))
        if known is not None:
            return known, False
        return await self._database.write(lambda session: self._add(session, caller, digest, manifest)), True

    async def get(self, organization: str, digest: str) -> VersionView:
        """Raises `NotFound` (`version_unknown`)."""
        found = await self._database.read(lambda session: repository.find(session, organization, digest))
        if found is None:
            raise unknown(digest)
        return found

    async def page(self, organization: str, *, agent: str | None, after: str | None, limit: int) -> Page[VersionView]:
        rows = await self._database.read(
            lambda session: repository.page(session, organization, agent=agent, after=after, limit=limit + 1)
        )
        return page_of(rows, limit=limit, key=lambda version: (version.digest,))

    def _add(self, session: WriteSession, caller: Credential, digest: str, manifest: Manifest) -> VersionView:
        now = self._clock.now()
        organization = caller.organization
        known = agents.find(session, organization, manifest.name)
        if known is not None:
            require_write(caller, known)
            agent = known.id
        elif caller.may(MAKES_AGENTS):
            agent = agents.create(session, organization, manifest.name, owner=caller.principal, now=now)
        else:
            raise missing(MAKES_AGENTS)
        values = manifest.model_dump(mode="json")
        repository.add(session, organization, agent, digest=digest, manifest=values, source=digest, now=now)
        view = repository.find(session, organization, digest)
        assert view is not None
        return view

    async def _collect(self, chunks: AsyncIterable[bytes]) -> bytes:
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > self._limit:
                raise TooLarge(
                    f"The upload is larger than {self._limit / MEBIBYTE:g} MiB",
                    code="source_too_large",
                    hint="Name what the agent does not need in .orchestratorignore.",
                )
        return bytes(data)


def unknown(digest: str) -> NotFound:
    return NotFound(
        f"No version with the digest {digest} was uploaded",
        code="version_unknown",
        hint="Upload the folder to /api/v1/versions first; `orchestrator deploy` does.",
    )


def _read_manifest(folder: Path, gpus: int, memory: int | None) -> Manifest:
    try:
        text = (folder / manifests.FILE).read_bytes().decode()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Unprocessable(
            f"The folder has no {manifests.FILE}", code="no_manifest", hint="Add one: `orchestrator new` shows how."
        ) from error
    except UnicodeDecodeError as error:
        raise Unprocessable(
            f"{manifests.FILE} is not UTF-8", code="manifest_invalid", hint="Save it as UTF-8 text."
        ) from error
    return manifests.read(text, gpus=gpus, memory=memory)
