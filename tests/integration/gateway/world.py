"""A gateway in this process between a fake server, a fake supervisor and real sockets, and a caller for it."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.gateway.client import ClientConnection
from local.gateway.gateway import Gateway
from local.gateway.process import Listener
from local.gateway.settings import Limits, Settings
from local.gateway.tls_listener import TlsListener
from tests.fakes.control_server import TOKEN, FakeServer, create_route
from tests.fakes.instance_server import FakeInstance
from tests.fakes.manual_clock import ManualClock
from tests.fakes.supervisor_server import FakeSupervisor

PATIENCE = 10.0  # seconds until a test that hangs fails


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Call:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = text.rstrip().split("\r\n")
        return int(line.split(" ")[1]), {name: value for name, _, value in (field.partition(": ") for field in rest)}

    async def piece(self) -> bytes:
        """One chunk of an answer; b"" for the last."""
        async with asyncio.timeout(PATIENCE):
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        return data

    async def answer(self, *, head_only: bool = False) -> Answer:
        status, headers = await self.head()
        body = b""
        async with asyncio.timeout(PATIENCE):
            if head_only:
                pass
            elif headers.get("transfer-encoding") == "chunked":
                while data := await self.piece():
                    body += data
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
        return Answer(status, headers, body)

    async def ended(self) -> bytes:
        """Whatever still comes until the gateway closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Go without a word. The gateway cannot tell an ordinary close from one of the sending half only."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def request(
    path: str,
    *,
    method: str = "POST",
    body: bytes = b"",
    token: str | None = TOKEN,
    host: str = "gateway",
    **headers: str,
) -> bytes:
    """A request as bytes; `_` in the names of headers stands for `-`."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class World:
    """Everything a test touches."""

    gateway: Gateway
    clock: ManualClock
    server: FakeServer
    supervisor: FakeSupervisor
    folder: Path
    port: int
    calls: list[Call] = field(default_factory=list)

    async def connect(self, *, source: str | None = None, **tls: Any) -> Call:
        """A new connection, from the address `source`; `tls` is what `open_connection` takes for it."""
        local = None if source is None else (source, 0)
        call = Call(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=local, **tls))
        self.calls.append(call)
        return call

    async def send(self, data: bytes) -> Call:
        call = await self.connect()
        call.send(data)
        return call

    async def call(self, path: str, *, method: str = "POST", **rest: Any) -> Answer:
        call = await self.send(request(path, method=method, **rest))
        return await call.answer(head_only=method == "HEAD")

    async def started(self) -> FakeInstance:
        instance: FakeInstance = await within(self.supervisor.started.get())
        return instance

    async def push(self, *agents: dict[str, Any], **rest: Any) -> None:
        generation = self.gateway.table.generation
        self.server.push(*agents, **rest)
        await until(lambda: self.gateway.table.generation > generation)

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the process would: second by second, with all that is due in each."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.gateway.measure()
            self.gateway.decide()
            self.gateway.sweep()


async def within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def create_world(
    *, limits: Limits | None = None, tls: Callable[[], ssl.SSLContext] | None = None, **route: Any
) -> AsyncIterator[World]:
    """A gateway that has got its routes: one agent, `echo`, unless `route` changes it."""
    with tempfile.TemporaryDirectory(prefix="gw") as name:
        folder = Path(name)
        server = FakeServer(folder / "control.sock")
        supervisor = FakeSupervisor(folder)
        server.push(create_route(**route))
        await server.start()
        await supervisor.start()
        clock = ManualClock()
        settings = Settings(
            control_socket=server.path,
            supervisor_socket=supervisor.path,
            api_socket=folder / "api.sock",
            listen_fd=-1,
            limits=limits or Limits(),
        )
        gateway = Gateway(settings, clock=clock, random=random.Random(7).random)
        gateway.spawn(gateway.server.run())
        gateway.spawn(gateway.supervisor.run())
        await within(gateway.supervisor.ready())
        await within(gateway.routed())
        loop = asyncio.get_running_loop()
        opened = socket.create_server(("127.0.0.1", 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)  # so that a slow reader is soon noticed
        port = opened.getsockname()[1]
        listening: Listener
        if tls is None:
            listening = await loop.create_server(lambda: ClientConnection(gateway), sock=opened)
        else:
            opened.setblocking(False)
            listening = TlsListener(gateway, opened, context=tls)
        world = World(gateway, clock, server, supervisor, folder, port)
        try:
            yield world
        finally:
            listening.close()
            for call in world.calls:
                call.close()
            await gateway.stop()
            server.close()
            supervisor.close()
            for _ in range(5):  # transports report their end one turn later
                await asyncio.sleep(0)
