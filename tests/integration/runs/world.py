"""The HTTP API of runs and sessions over a real journal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from control_api.app import create_app
from control_api.authorization import Credential, Credentials, token_digest
from control_api.runs.service import RunsService
from control_api.sessions.service import SessionsService
from control_api.settings import Runs, Settings
from domain.clock import SystemClock
from domain.roles import PERMISSIONS
from tests.integration.journal.world import ORGANIZATION, World

TOKEN = "orc_owner"
STRANGER = "orc_stranger"


@dataclass(slots=True)
class Api:
    """`journal` makes things happen, `client` (as the owner) and `stranger` (of another organization) look at them."""

    journal: World
    client: httpx.AsyncClient
    stranger: httpx.AsyncClient

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON that a successful GET answers; `path` is below /api/v1."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def follow(self, run: str, *, last: int | None = None) -> AsyncIterator[tuple[int, str]]:
        """(id, name) of each event of the run's live stream."""
        headers = {"accept": "text/event-stream"} | ({} if last is None else {"last-event-id": str(last)})
        async with self.client.stream("GET", f"/runs/{run}/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            number = 0
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("event: "):
                    yield number, line[7:]


@cache
def _app() -> FastAPI:
    """Made once, because FastAPI takes its time; each test gives it services of its own."""
    return create_app(clock=SystemClock(), measure=lambda *_: None)


@asynccontextmanager
async def serving(journal: World, home: Path) -> AsyncIterator[Api]:
    app = _app()
    app.state.credentials = Credentials(
        [
            Credential("1", token_digest(TOKEN), ORGANIZATION, PERMISSIONS),
            Credential("2", token_digest(STRANGER), "org-2", PERMISSIONS),
        ]
    )
    app.state.settings = settings = Settings(home=home, runs=Runs(event_poll=60.0))
    app.state.runs = RunsService(
        database=journal.database,
        keys=journal.journal.keys,
        journal=journal.journal,
        changes=journal.changes,
        settings=settings,
    )
    app.state.sessions = SessionsService(database=journal.database, keys=journal.journal.keys)

    path = str(home / "api.sock")

    def client(token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path),
            base_url="http://api/api/v1",
            headers={"authorization": f"Bearer {token}"},
        )

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        served = asyncio.create_task(server.serve([listening]))
        async with client(TOKEN) as owner, client(STRANGER) as stranger:
            yield Api(journal, owner, stranger)
        server.should_exit = True
        await served
