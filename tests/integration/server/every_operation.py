"""A whole server with one of everything in its first organization, and every operation that its OpenAPI document has.

Operations are sent to the application itself, and left as soon as they answer: live streams never end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Table, insert, select
from starlette.types import Message

from control_api.app import create_app
from control_api.bootstrap import Server, prepare
from control_api.keys import repository as keys_of
from control_api.organizations import repository as organizations
from control_api.settings import Settings
from control_api.store.database import ReadSession, WriteSession
from control_api.store.partitions import events_of, payloads_of, week
from control_api.store.tables import (
    PARTITIONED,
    agent_grants,
    builds,
    deployments,
    invitations,
    metadata,
    revisions,
    service_accounts,
    sessions,
    traffic,
    versions,
)
from control_api.store.tables import agents as agents_table
from domain.roles import Role
from orchestrator_runtime.contract.journal import Admission
from tests.fakes.manual_clock import START, ManualClock
from tests.integration.api.world import pack

CANARY = "canary-of-the-first-organization"
DIGEST = "a" * 64
ADDRESS = "http://127.0.0.1:4100"
HELD = 30.0  # seconds until a test that hangs fails


@cache
def document() -> dict[str, Any]:
    return create_app(clock=ManualClock(), measure=lambda *_: None).openapi()


def operations() -> dict[str, dict[str, Any]]:
    """ "METHOD /path" -> the operation."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    }


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes  # what had come when it was left

    @property
    def code(self) -> str:
        return str(json.loads(self.body).get("code")) if self.status >= 400 else ""


@dataclass(slots=True)
class Installation:
    """`tokens`: of a member of the first organization for each role, and of the owner of another (`stranger`)."""

    server: Server
    first: str
    tokens: dict[str, str]
    names: dict[str, str]  # path parameter -> an identifier of the first organization

    async def ask(self, name: str, who: str | None) -> Answer:
        """Send the operation with the identifiers of the first organization and its example as the body."""
        method, path = name.split(" ")
        for parameter, value in {**self.names, **({"name": "KEY"} if "/secrets/" in path else {})}.items():
            path = path.replace(f"{{{parameter}}}", value)
        headers = [(b"content-type", b"application/json")]
        if who is not None:
            headers.append((b"authorization", f"Bearer {self.tokens[who]}".encode()))
        return await send(self.server, method, path, headers=headers, body=self._body(name))

    def _body(self, name: str) -> bytes:
        if name.startswith("POST /api/v1/versions"):
            return pack("fresh")
        content = operations()[name].get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return b""
        schema = document()["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        body = dict(schema["example"])
        body |= {key: self.names[key] for key in ("principal", "digest") if key in body}
        return json.dumps({key: value for key, value in body.items() if value is not None}).encode()

    async def rows(self) -> dict[str, list[Any]]:
        """Everything in the database that is of the first organization, but for when keys were used."""

        def read(session: ReadSession) -> dict[str, list[Any]]:
            weekly = [events_of(week(START)), payloads_of(week(START))]
            tables = [table for table in metadata.tables.values() if table not in PARTITIONED] + weekly
            return {table.name: _rows(session, table, self.first) for table in tables if "organization" in table.c}

        return await self.server.database.read(read)


def _rows(session: ReadSession, table: Table, organization: str) -> list[Any]:
    columns = [column for column in table.c if column.name != "last_used_at"]
    query = select(*columns).where(table.c.organization == organization).order_by(*table.primary_key.columns)
    return [tuple(row) for row in session.execute(query)]


async def send(server: Server, method: str, path: str, *, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    """One request; it is left when the answer's head and what there is of its body have come."""
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("server", 80),
    }
    status, found, begun = 0, bytearray(), asyncio.Event()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            return
        found.extend(message.get("body", b""))
        begun.set()

    asking = asyncio.ensure_future(server.app(cast("Any", scope), receive, take))
    done = asyncio.ensure_future(begun.wait())
    async with asyncio.timeout(HELD):
        await asyncio.wait({asking, done}, return_when=asyncio.FIRST_COMPLETED)
    for task in (asking, done):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    return Answer(status, bytes(found))


@asynccontextmanager
async def installation(url: str, folder: Path) -> AsyncIterator[Installation]:
    clock = ManualClock()
    settings = Settings(home=folder, database=url)
    keys = prepare(settings, clock=clock)
    server = await Server.create(settings, keys=keys, clock=clock, address=ADDRESS)
    try:
        yield await _fill(server, clock)
    finally:
        await server.close()


async def _fill(server: Server, clock: ManualClock) -> Installation:
    """One of everything in the first organization; a person for each role, and a stranger."""
    first, now = server.directory.first, clock.now()
    keys = server.journal.keys

    def people(session: WriteSession) -> tuple[dict[str, str], dict[str, str], str]:
        tokens: dict[str, str] = {}
        names: dict[str, str] = {}
        others = organizations.create(session, keys, "others", now=now).id
        for who, organization, role in (
            *((role.value, first, role) for role in Role),
            ("stranger", others, Role.OWNER),
        ):
            person = organizations.create_person(session, who, email=None, now=now)
            organizations.join(session, organization, person, role, now=now)
            _, tokens[who] = keys_of.create(session, organization, person, name=who, created_by=person, now=now)
        victim = organizations.create_person(session, CANARY, email=f"{CANARY}@example.org", now=now)
        organizations.join(session, first, victim, Role.DEVELOPER, now=now)
        key, _ = keys_of.create(session, first, victim, name=CANARY, created_by=victim, now=now)
        names |= {"member": victim, "principal": victim, "key": key}
        return tokens, names, others

    tokens, names, _ = await server.directory.change(people, lambda made: [first, made[2]])
    await server.database.write(lambda session: _agent(session, first, names["principal"]))
    await server.secrets.put(first, CANARY.upper().replace("-", "_"), "value")
    request = {"method": "POST", "path": f"/{CANARY}", "query": "", "content_type": "application/json"}
    run = "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b"
    admission = {"run": run, "trigger": "http", "request": request, "deadline": 60.0, "correlation": CANARY}
    await server.journal.submit(first, "triage", "triage-00001", cast("Admission", admission), b'"in"')
    names |= {
        "name": "triage",
        "revision": "triage-00001",
        "digest": DIGEST,
        "deployment": "deployment-1",
        "build": "build-1",
        "session": "session-1",
        "run": run,
        "seq": "1",
        "version": "1",
        "account": "account-1",
        "invitation": "invitation-1",
    }
    return Installation(server, first, tokens, names)


def _agent(session: WriteSession, organization: str, person: str) -> None:
    common: Mapping[str, Any] = {"organization": organization, "created_at": START}
    of_agent = {**common, "agent": "agent-1"}
    manifest = {
        "name": "triage",
        "entrypoint": "agent:run",
        "framework": "plain",
        "version": "1.0.0",
        "access": "organization",
        "scale": {"min": 0, "max": 20},
        "description": CANARY,
    }
    rows: list[tuple[Table, dict[str, Any]]] = [
        (agents_table, {**common, "id": "agent-1", "name": "triage", "owner": person, "updated_at": START}),
        (
            versions,
            {
                **of_agent,
                "digest": DIGEST,
                "label": "1.0.0",
                "framework": "plain",
                "manifest": manifest,
                "source": DIGEST,
            },
        ),
        (builds, {**of_agent, "id": "build-1", "version": DIGEST, "state": "succeeded", "log": CANARY}),
        (
            deployments,
            {
                **of_agent,
                "id": "deployment-1",
                "version": DIGEST,
                "build": "build-1",
                "revision": "triage-00001",
                "state": "ready",
            },
        ),
        (revisions, {**of_agent, "name": "triage-00001", "number": 1, "version": DIGEST, "state": "ready"}),
        (
            traffic,
            {
                "organization": organization,
                "agent": "agent-1",
                "position": 0,
                "revision": "triage-00001",
                "percent": 100,
            },
        ),
        (agent_grants, {**of_agent, "principal": person, "role": "operator", "created_by": person}),
        (sessions, {**common, "agent": "triage", "id": "session-1", "runs": 0, "updated_at": START}),
        (
            service_accounts,
            {**common, "id": "account-1", "name": "canary-account", "role": "viewer", "created_by": person},
        ),
        (
            invitations,
            {
                **common,
                "id": "invitation-1",
                "email": f"{CANARY}@example.com",
                "role": "viewer",
                "digest": "d",
                "created_by": person,
                "expires_at": START,
            },
        ),
    ]
    for table, values in rows:
        session.execute(insert(table).values(**values))
