"""An instance between a journal and a caller, over real sockets: in this process, or in one of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchestrator_runtime.contract.instance import InstanceStart, Limits
from orchestrator_runtime.frameworks import plain
from orchestrator_runtime.frameworks.adapter import Agent
from orchestrator_runtime.server import Server
from tests.fakes.journal_server import FakeJournal

PATIENCE = 20.0  # seconds until a test that hangs fails
REPOSITORY = Path(__file__).resolve().parents[3]
CALL_TOKEN, JOURNAL_TOKEN = "call-token", "journal-token"


def create_start(**members: Any) -> InstanceStart:
    values: dict[str, Any] = {
        "instance": "echo-00001-1",
        "organization": "o",
        "agent": "echo",
        "revision": "echo-00001",
        "version": "sha256:0",
        "framework": "plain",
        "entrypoint": "agent:handle",
        "limits": Limits(memory_bytes=1 << 30, cpu=1.0),
        "concurrency": 0,
        "timeout": 60.0,
        "grace": 5.0,
        "payload_limit": 1 << 20,
        "call_token": CALL_TOKEN,
        "journal_token": JOURNAL_TOKEN,
    }
    return InstanceStart(**{**values, **members})


@dataclass(slots=True)
class World:
    """`control` is the supervisor's end of the control socket, `stuck` lists runs whose code did not stop."""

    folder: Path
    journal: FakeJournal
    control: socket.socket
    client: httpx.AsyncClient
    ended: asyncio.Future[Any]
    stuck: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    async def call(self, value: Any = None, *, path: str = "/", **options: Any) -> httpx.Response:
        """POST JSON as the gateway does; header names are given with _."""
        return await self.client.send(self.request(value, path=path, **options))

    def request(self, value: Any = None, *, path: str = "/", **options: Any) -> httpx.Request:
        method = options.pop("method", "POST")
        content = options.pop("content", None)
        headers = {"orchestrator-call-token": CALL_TOKEN, "content-type": "application/json"}
        headers |= {name.replace("_", "-"): str(text) for name, text in options.items()}
        body = json.dumps(value).encode() if content is None else content
        return self.client.build_request(method, path, content=body, headers=headers)

    def tell(self, event: str, **members: Any) -> None:
        self.control.send(json.dumps({"event": event, **members}).encode())

    async def heard(self) -> dict[str, Any]:
        """The next datagram of the instance."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await loop.sock_recv(self.control, 65536))
        return message

    def only_run(self) -> Any:
        [run] = self.journal.runs.values()
        return run


@contextmanager
def sockets(folder: Path) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """The instance's listening socket, and both ends of its control socket."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "instance.sock"))
        listening.listen()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            ours.setblocking(False)
            yield listening, ours, theirs


@asynccontextmanager
async def create_world(
    target: Callable[..., Any], *, load: Callable[[Any, InstanceStart], Agent] = plain.load, **start: Any
) -> AsyncIterator[World]:
    """An instance of `target` (a plain function) in this process; drained at the end, if it has not been."""
    described = create_start(**start)
    with tempfile.TemporaryDirectory(prefix="orc-") as name, sockets(Path(name)) as (listening, ours, theirs):
        folder, stuck = Path(name), list[str]()
        async with FakeJournal(folder / "journal.sock", token=JOURNAL_TOKEN) as journal, _client(folder) as client:
            server = Server(
                described,
                journal=str(journal.path),
                redact=str,
                end_output=lambda _: None,
                on_stuck=stuck.append,
            )
            ended = asyncio.ensure_future(server.run(load(target, described), listen=listening, control=theirs))
            try:
                yield World(folder, journal, ours, client, ended, stuck)
            finally:
                if not ended.done():
                    server.drain()
                async with asyncio.timeout(PATIENCE):
                    await ended


@asynccontextmanager
async def spawn_world(code: str, files: dict[str, str] | None = None, **start: Any) -> AsyncIterator[World]:
    """An instance in a process of its own, whose agent.py is `code`; killed at the end, if it still runs."""
    with tempfile.TemporaryDirectory(prefix="orc-") as name, sockets(Path(name)) as (listening, ours, theirs):
        folder = Path(name)
        source = folder / "app"
        for path, text in {"agent.py": code, **(files or {})}.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text)
        async with FakeJournal(folder / "journal.sock", token=JOURNAL_TOKEN) as journal, _client(folder) as client:
            process = await spawn(source, listening, theirs, journal, create_start(**start))
            theirs.close()
            waiting = asyncio.ensure_future(process.communicate())
            try:
                yield World(folder, journal, ours, client, waiting, process=process)
            finally:
                if process.returncode is None:
                    process.kill()
                await waiting


async def spawn(
    source: Path, listening: socket.socket, control: socket.socket, journal: FakeJournal, start: InstanceStart
) -> asyncio.subprocess.Process:
    numbers = (listening.fileno(), control.fileno())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tests.fakes.instance_program", *map(str, numbers), str(journal.path)),
        cwd=source,
        pass_fds=numbers,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'functions'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(start.to_json())
    process.stdin.close()
    return process


@asynccontextmanager
async def _client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "instance.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://instance", timeout=PATIENCE) as client:
        yield client
