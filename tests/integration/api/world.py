"""The API over a real database, with a reconciler at work; platform and builder are fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import insert

from builders import bundle
from control_api.agents.access import AgentAccess
from control_api.agents.service import AgentsService
from control_api.app import create_app
from control_api.authorization import new_token, token_digest
from control_api.builds.service import BuildsService
from control_api.changes import Changes, agent_topic
from control_api.deployments.service import DeploymentsService
from control_api.grants.service import GrantsService
from control_api.invitations.service import InvitationsService
from control_api.keys import repository as keys_of
from control_api.keys.service import KeysService
from control_api.keys.use import KeyUse
from control_api.logs.service import LogsService
from control_api.members.service import MembersService
from control_api.organizations import repository as organizations_of
from control_api.organizations.directory import Directory
from control_api.organizations.service import OrganizationsService
from control_api.reconciler.reconciler import Reconciler
from control_api.revisions.service import RevisionsService
from control_api.secrets.outside import OutsideValues
from control_api.secrets.service import SecretsService
from control_api.service_accounts.service import ServiceAccountsService
from control_api.settings import Settings
from control_api.store.database import Database, WriteSession, open_database
from control_api.store.keys import OrganizationKeys
from control_api.store.tables import credentials, organizations
from control_api.versions.service import VersionsService
from domain.home import Home
from domain.roles import Role
from orchestrator_runtime.contract.ids import uuid7
from tests.fakes.builder import FakeBuilder
from tests.fakes.keys import organization_keys
from tests.fakes.manual_clock import START, ManualClock
from tests.fakes.platform import FakePlatform

ORGANIZATION = "o-1"
ADDRESS = "http://127.0.0.1:4100"
CODE = "def run(input):\n    return input\n"


@dataclass(frozen=True, slots=True)
class Somebody:
    """A person with a key of theirs."""

    id: str
    organization: str
    token: str
    client: httpx.AsyncClient


@dataclass(slots=True)
class World:
    """One installation. `restart` ends the server's part and starts another one on the same data."""

    url: str
    home: Home
    settings: Settings
    token: str = field(default_factory=new_token)
    clock: ManualClock = field(default_factory=ManualClock)
    platform: FakePlatform = field(default_factory=FakePlatform)
    builder: FakeBuilder = field(default_factory=FakeBuilder)
    changes: Changes = field(default_factory=Changes)
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _database: Database | None = None
    _secrets: SecretsService | None = None
    _agents: AgentsService | None = None
    _directory: Directory | None = None
    _client: httpx.AsyncClient | None = None
    _clients: list[httpx.AsyncClient] = field(default_factory=list)
    _app: FastAPI | None = None

    @property
    def database(self) -> Database:
        assert self._database is not None
        return self._database

    @property
    def secrets(self) -> SecretsService:
        assert self._secrets is not None
        return self._secrets

    @property
    def agents(self) -> AgentsService:
        assert self._agents is not None
        return self._agents

    @property
    def directory(self) -> Directory:
        assert self._directory is not None
        return self._directory

    @property
    def logs(self) -> LogsService:
        return LogsService(database=self.database, platform=self.platform, changes=self.changes)

    @property
    def client(self) -> httpx.AsyncClient:
        assert self._client is not None
        return self._client

    async def start(self, *, reconciling: bool = True) -> None:
        self._database = open_database(self.url)
        self.changes = changes = Changes()
        keys = organization_keys()
        await self.database.write(lambda session: self._organization(session, keys))
        self._directory = directory = await Directory.load(self.database, clock=self.clock)
        self._secrets = secrets = SecretsService(
            database=self.database, keys=keys, clock=self.clock, outside=OutsideValues(None, clock=self.clock)
        )
        reconciler = Reconciler(
            database=self.database,
            platform=self.platform,
            builder=self.builder,
            clock=self.clock,
            changes=changes,
            home=self.home,
            secrets=secrets,
            settings=self.settings,
        )
        app = create_app(clock=self.clock, measure=lambda *measured: None)
        common: dict[str, Any] = {"database": self.database, "clock": self.clock}
        wishes: dict[str, Any] = {"reconciler": reconciler, "changes": changes, "address": ADDRESS}
        self._agents = AgentsService(**common, **wishes, platform=self.platform, directory=directory)
        who: dict[str, Any] = {**common, "directory": directory}
        services = {
            "access": AgentAccess(self.database),
            "agents": self.agents,
            "builds": BuildsService(database=self.database),
            "credentials": directory.credentials,
            "deployments": DeploymentsService(**common, **wishes),
            "grants": GrantsService(**who, changes=changes),
            "invitations": InvitationsService(**who, keys=keys),
            "keys": KeysService(**who),
            "logs": self.logs,
            "members": MembersService(**who),
            "organizations": OrganizationsService(database=self.database, directory=directory),
            "revisions": RevisionsService(database=self.database, platform=self.platform),
            "secrets": secrets,
            "service_accounts": ServiceAccountsService(**who),
            "settings": self.settings,
            "versions": VersionsService(**common, home=self.home, settings=self.settings),
        }
        for name, service in services.items():
            setattr(app.state, name, service)
        self._app = app
        self._client = self.client_of(self.token)
        if reconciling:
            self._running.append(asyncio.create_task(reconciler.run()))

    def _organization(self, session: WriteSession, keys: OrganizationKeys) -> None:
        """The first organization, with an owner whose key is that of the home folder."""
        if session.execute(organizations.select()).first() is not None:
            return
        session.execute(insert(organizations).values(id=ORGANIZATION, name="default", created_at=START))
        keys.create(session, ORGANIZATION)
        person = organizations_of.create_person(session, "owner", email=None, now=START)
        organizations_of.join(session, ORGANIZATION, person, Role.OWNER, now=START)
        key = {"digest": token_digest(self.token), "id": uuid7(), "organization": ORGANIZATION, "principal": person}
        session.execute(insert(credentials).values(**key, name="owner", created_at=START))

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()
        for client in self._clients:
            await client.aclose()
        self._clients.clear()
        await self.database.close()

    async def restart(self) -> None:
        """The platform forgets what it was told, as the embedded engine's server does."""
        await self.stop()
        self.platform.desired.clear()
        await self.start()

    # who asks

    def client_of(self, token: str | None) -> httpx.AsyncClient:
        """The API as whoever has this token; without one as nobody."""
        assert self._app is not None
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(self._app)
        made = httpx.AsyncClient(transport=transport, base_url="http://server/api/v1", headers=headers)
        self._clients.append(made)
        return made

    async def somebody(self, role: Role, *, organization: str = ORGANIZATION, name: str = "Ada") -> Somebody:
        """A new member with a key that is not narrowed."""
        now = self.clock.now()

        def join(session: WriteSession) -> tuple[str, str]:
            person = organizations_of.create_person(session, name, email=None, now=now)
            organizations_of.join(session, organization, person, role, now=now)
            _, token = keys_of.create(session, organization, person, name="first", created_by=person, now=now)
            return person, token

        person, token = await self.directory.change_in(organization, join)
        return Somebody(person, organization, token, self.client_of(token))

    async def stranger(self) -> Somebody:
        """The owner of another organization."""
        keys, now = organization_keys(), self.clock.now()
        made = await self.database.write(lambda session: organizations_of.create(session, keys, "others", now=now))
        return await self.somebody(Role.OWNER, organization=made.id, name="Eve")

    async def write_use(self) -> None:
        """What the server does every few seconds."""
        await KeyUse(self.database, self.directory.credentials).write()

    # what tests do

    async def upload(self, name: str = "triage", *, code: str = CODE, **files: str) -> str:
        """Upload an agent's folder; returns its digest."""
        answer = await self.client.post("/versions", content=pack(name, code=code, **files))
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["digest"])

    async def ask(self, digest: str) -> dict[str, Any]:
        answer = await self.client.post("/deployments", json={"digest": digest})
        assert answer.status_code in {200, 202}, answer.text
        return dict(answer.json())

    async def deploy(self, name: str = "triage", *, code: str = CODE, **files: str) -> dict[str, Any]:
        """Upload, deploy, and wait until it is ready or has failed."""
        deployment = await self.ask(await self.upload(name, code=code, **files))
        return await self.finished(deployment["id"])

    async def deploy_as(self, somebody: Somebody, name: str = "triage") -> str:
        """As `deploy`, by a member; returns the digest."""
        uploaded = await somebody.client.post("/versions", content=pack(name))
        assert uploaded.status_code == 201, uploaded.text
        digest = str(uploaded.json()["digest"])
        asked = await somebody.client.post("/deployments", json={"digest": digest})
        assert asked.status_code == 202, asked.text
        await self.finished(asked.json()["id"])
        return digest

    async def finished(self, deployment: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            await self.client.get(f"/deployments/{deployment}/events")
        return dict(await self.get(f"/deployments/{deployment}"))

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def watched(self, name: str) -> None:
        """Return when somebody follows the agent and has seen what there is."""
        async with asyncio.timeout(10):
            while not self.changes._watchers.get(agent_topic(ORGANIZATION, name)):
                await asyncio.sleep(0)

    async def agent_says(self, condition: Any, name: str = "triage") -> None:
        """Return when something about the agent is so; looks again whenever the agent has changed."""
        with self.changes.watch(agent_topic(ORGANIZATION, name)) as changed:
            async with asyncio.timeout(10):
                while not condition():
                    await changed.wait()
                    changed.clear()


def pack(name: str = "triage", *, code: str = CODE, **files: str) -> bytes:
    """An agent's folder as an upload. `manifest` is added to agent.yaml; other names are files, `_` for the dot."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = f"name: {name}\nentrypoint: agent:run\n" + files.pop("manifest", "")
        for path, text in {"agent.yaml": manifest, "agent.py": code, **files}.items():
            Path(folder, path).write_text(text)
        return bundle.pack(folder)


def events(body: str) -> list[tuple[str, str, Any]]:
    """The (id, event, data) of a stream of server-sent events."""
    found = []
    for block in body.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines.get("id", ""), lines["event"], json.loads(lines["data"])))
    return found


@asynccontextmanager
async def create_world(url: str, folder: Path, *, reconciling: bool = True, **settings: Any) -> AsyncIterator[World]:
    world = World(url, Home(folder), Settings(home=folder, **settings))
    await world.start(reconciling=reconciling)
    try:
        yield world
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await world.stop()
