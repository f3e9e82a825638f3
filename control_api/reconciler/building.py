"""Has environments built, and stores what a build says while it says it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from builders.dependencies import is_build_secret
from builders.resolver import UNREACHABLE
from control_api.changes import Changes, deployment_topic
from control_api.reconciler import steps
from control_api.reconciler.steps import Unfinished
from control_api.secrets.service import SecretsService
from control_api.store.database import Database
from domain.clock import Clock
from domain.deployment import BuildRequest, Environment
from domain.home import Home
from domain.manifest import Framework
from domain.ports import Builder
from orchestrator_runtime.contract.errors import Problem, Unavailable

logger = logging.getLogger("reconciler.building")

LOG_BYTES = 1024 * 1024
RETRY_AFTER = (5.0, 20.0)  # seconds; the builder's own program has asked several times by then
CUT = "[the log is longer than 1 MiB; the rest is left out]"
SHORTEST_MASKED = 4  # characters; shorter values would blank out half the log


class Building:
    def __init__(
        self,
        *,
        database: Database,
        builder: Builder,
        clock: Clock,
        changes: Changes,
        home: Home,
        secrets: SecretsService,
    ) -> None:
        self._database = database
        self._builder = builder
        self._clock = clock
        self._changes = changes
        self._home = home
        self._secrets = secrets

    async def build(self, deployment: Unfinished) -> None:
        """Make or find the deployment's environment; the outcome is in the database. Cancelling it ends the build."""
        now = self._clock.now()
        await self._database.write(lambda session: steps.start_build(session, deployment, now))
        outcome = await self._attempt(deployment)
        ended = self._clock.now()
        if isinstance(outcome, Problem):
            document = outcome.document()
            await self._database.write(lambda session: steps.break_build(session, deployment, document, ended))
        else:
            digest = outcome.digest
            await self._database.write(lambda session: steps.finish_build(session, deployment, digest, ended))

    async def _attempt(self, deployment: Unfinished) -> Environment | Problem:
        try:
            secrets = await self._build_secrets(deployment.organization)
            request = BuildRequest(
                organization=deployment.organization,
                version=deployment.version,
                source=str(self._home.sources(deployment.organization) / deployment.source),
                framework=Framework(deployment.framework),
                secrets=secrets,
            )
            async with BuildLog(lambda text: self._store(deployment, text), masked=secrets) as log:
                return await self._tried_again(request, log.line)
        except Problem as problem:
            return problem
        except Exception:
            logger.exception("the build %s failed unexpectedly", deployment.build)
            return Problem(
                "Something unexpected went wrong in the builder",
                code="internal",
                hint="The server's log has the details; please report it.",
            )

    async def _tried_again(self, request: BuildRequest, log: Callable[[str], None]) -> Environment:
        """Build; an index that does not answer is asked again later, because most of them do then."""
        for number, pause in enumerate(RETRY_AFTER, 2):
            try:
                return await self._builder.build(request, log=log)
            except Unavailable as problem:
                if problem.code != UNREACHABLE:
                    raise
                log(f"{problem.detail}. Trying again in {pause:g} s ({number} of {len(RETRY_AFTER) + 1})")
            await asyncio.sleep(pause)
        return await self._builder.build(request, log=log)

    async def _build_secrets(self, organization: str) -> dict[str, str]:
        names = [name for name in await self._secrets.names(organization) if is_build_secret(name)]
        return await self._secrets.values(organization, names)

    async def _store(self, deployment: Unfinished, text: str) -> None:
        await self._database.write(lambda session: steps.append_log(session, deployment.build, text))
        self._changes.publish(deployment_topic(deployment.id))


class BuildLog:
    """Stores lines as they come; those that come while a write runs go into the next one. All are stored at the end.

    `masked`: values that no line may show.
    """

    def __init__(self, store: Callable[[str], Awaitable[None]], *, masked: Mapping[str, str]) -> None:
        self._store = store
        self._masked = [value for value in masked.values() if len(value) >= SHORTEST_MASKED]
        self._lines: list[str] = []
        self._grew = asyncio.Event()
        self._left = LOG_BYTES
        self._writing: asyncio.Task[None] | None = None

    def line(self, text: str) -> None:
        if self._left <= 0:
            return
        for value in self._masked:
            text = text.replace(value, "***")
        self._left -= len(text.encode(errors="replace")) + 1
        self._lines.append(text.replace("\n", " ") if self._left > 0 else CUT)
        self._grew.set()

    async def __aenter__(self) -> BuildLog:
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._writing is not None
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        await self._flush()

    async def _write(self) -> None:
        while True:
            await self._grew.wait()
            self._grew.clear()
            await self._flush()

    async def _flush(self) -> None:
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            await self._store(text)
