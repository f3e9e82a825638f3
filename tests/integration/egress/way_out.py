"""A way out for one instance, with names that the test decides, and a server that may be reached by it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from local.egress.policy import Allowance
from local.egress.service import Egress
from local.egress.traffic import Traffic
from orchestrator_runtime.contract.errors import BadGateway

PATIENCE = 10.0  # seconds until a test that hangs fails


@dataclass(slots=True)
class Names:
    """What names mean; each answer is given once, the last one again and again."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[IPv4Address | IPv6Address]:
        self.asked.append(host)
        if host not in self.answers:
            raise BadGateway(f"The name {host} cannot be resolved", code="name_unknown")
        answers = self.answers[host]
        return [ip_address(address) for address in (answers.pop(0) if len(answers) > 1 else answers[0])]


@dataclass(slots=True)
class Upstream:
    """A server on the loopback: keeps what it gets, and answers `answer` to each request or echoes with `echo`."""

    port: int = 0
    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    echo: bool = False
    received: list[bytes] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        data = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                data += piece
                if self.echo:
                    writer.write(piece)
                elif _whole(bytes(data)):
                    writer.write(self.answer)
                    break
            await writer.drain()
        self.received.append(bytes(data))
        writer.close()
        self.ended.set()


def _whole(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return b"\r\n\r\n" in data and len(body) >= length


@dataclass(slots=True)
class Wire:
    """One connection to the proxy, as a program in the instance makes it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@dataclass(slots=True)
class WayOut:
    egress: Egress
    upstream: Upstream
    names: Names
    port: int
    server: asyncio.Server
    wires: list[Wire] = field(default_factory=list)

    @property
    def traffic(self) -> Traffic:
        return self.egress.traffic("i-1")

    async def send(self, data: bytes) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        wire.writer.write(data)
        return wire

    async def ask(self, data: bytes) -> bytes:
        """Everything that is answered until the proxy ends the connection."""
        return await (await self.send(data)).rest()


@contextlib.asynccontextmanager
async def create_way_out(*, network: str | list[str] = "internet", allow: bool = True) -> AsyncIterator[WayOut]:
    """`server.test` is the upstream; with `allow` the operator lets the instance reach it."""
    upstream, names = Upstream(), Names({"server.test": [["127.0.0.1"]]})
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    allowed = frozenset({Allowance("server.test", upstream.port)} if allow else ())
    egress = Egress(allowed=allowed, resolver=names.resolve)
    listening = socket.create_server(("127.0.0.1", 0))
    await egress.serve(listening, "i-1", "org-1", network)
    out = WayOut(egress, upstream, names, listening.getsockname()[1], server)
    try:
        yield out
    finally:
        for wire in out.wires:
            wire.writer.close()
        tasks = [task for served in egress._served.values() for task in served.connections]
        egress.close("i-1")
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()
        for _ in range(10):  # transports report their end some turns later
            await asyncio.sleep(0)
