"""One connection out of an instance: HTTP CONNECT, a plain HTTP request through a proxy, or SOCKS5, by its first byte.

Names are resolved once, here; the connection goes to an address that was checked, so that a second answer of the name
server cannot lead anywhere else. A plain HTTP connection carries one request: each is checked on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from local.egress import socks
from local.egress.plain_http import read_head, upstream_head
from local.egress.policy import Address, Allowance, Network, check_addresses, check_name, literal, plain_name
from local.egress.traffic import Traffic
from local.gateway.heads import CHUNKS_END, chunk, problem_answer
from local.gateway.requests import Request
from orchestrator_runtime.contract.errors import BadGateway, BadInput, Problem, TimedOut
from orchestrator_runtime.contract.ids import uuid7

logger = logging.getLogger("egress")

HEAD_TIMEOUT = 15.0  # seconds
CONNECT_TIMEOUT = 10.0
PIECE = 64 * 1024
SOCKS_VERSION = 5

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for the connections of one instance."""

    instance: str
    network: Network
    allowed: frozenset[Allowance]
    resolve: Resolve
    trusted: frozenset[str] = frozenset()  # names that the operator has configured, such as a package index


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    port: int


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a name. Raises `BadGateway` (`name_unknown`)."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadGateway(f"The name {host} cannot be resolved: {error}", code="name_unknown") from error
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


class Connection:
    """Serves one accepted connection, to its end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, rules: Rules, traffic: Traffic
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._rules = rules
        self._traffic = traffic

    async def serve(self) -> None:
        self._traffic.connections += 1
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                first = await self._reader.readexactly(1)
            if first[0] == SOCKS_VERSION:
                await self._socks()
            else:
                await self._http(first)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            # one end went away, or never said what it wants: that ends this connection and nothing else
            logger.debug("A connection of %s ended: %r", self._rules.instance, error)
        finally:
            self._writer.close()

    # SOCKS5

    async def _socks(self) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                host, port = await socks.read_request(self._reader, self._writer)
            upstream = await self._open(Target(host, port))
        except Problem as problem:
            self._note(problem)
            self._writer.write(socks.refusal(problem))
            await self._writer.drain()
            return
        self._writer.write(socks.GRANTED)
        await self._relay(*upstream)

    # HTTP

    async def _http(self, first: bytes) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                head = first + await self._reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"CONNECT "):
                await self._connect(head)
            else:
                await self._forward(head)
        except Problem as problem:
            self._note(problem)
            # HTTP clients show of a proxy's refusal only the first line: so that says what happened and what to do
            phrase = f"{problem.detail}. {problem.hint}".removesuffix(" ")
            self._writer.write(problem_answer(problem, correlation=uuid7(), close=True, phrase=phrase))
            await self._writer.drain()

    async def _connect(self, head: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3:
            raise _malformed("a CONNECT request has a target and a version")
        upstream = await self._open(_target(f"//{words[1]}", default_port=None))
        self._writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._relay(*upstream)

    async def _forward(self, head: bytes) -> None:
        """A request in absolute form: sent on in origin form, over a connection of its own."""
        url, request = read_head(head)
        if url.scheme != "http":
            raise _malformed(f"{url.scheme or 'a path'} cannot be asked for without CONNECT")
        reader, writer = await self._open(_target(f"//{url.netloc}", default_port=80))
        await self._send(writer, upstream_head(request, url))
        body = asyncio.create_task(self._send_body(request, writer))
        try:
            await self._receive(reader)  # the answer ends with the connection: we asked for that
        finally:
            writer.close()
            body.cancel()
            await asyncio.wait([body])

    async def _send_body(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Exactly the body that the head announces; nothing that follows it goes to this host."""
        if request.chunked:
            while piece := await _read_chunk(self._reader):
                await self._send(writer, chunk(piece))
            await self._send(writer, CHUNKS_END)
            return
        left = request.length or 0
        while left:
            piece = await self._reader.read(min(PIECE, left))
            if not piece:
                writer.transport.abort()
                return
            left -= len(piece)
            await self._send(writer, piece)

    # the way out

    async def _open(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Check, then connect to what was checked. Raises `Problem`."""
        check_name(target.host, target.port, network=self._rules.network)
        address = literal(target.host)
        addresses = [address] if address is not None else await self._rules.resolve(target.host, target.port)
        if plain_name(target.host) not in self._rules.trusted:
            check_addresses(target.host, target.port, addresses, allowed=self._rules.allowed)
        failed: Exception | None = None
        for candidate in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await asyncio.open_connection(str(candidate), target.port)
            except TimeoutError:
                failed = TimeoutError("no answer")
            except OSError as error:
                failed = error
        kind = TimedOut if isinstance(failed, TimeoutError) else BadGateway
        raise kind(f"{target.host}:{target.port} cannot be reached: {failed}", code="unreachable")

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until both have ended."""
        sending = asyncio.create_task(self._pump(writer))
        try:
            await self._receive(reader)
            with contextlib.suppress(OSError, RuntimeError):  # it may have gone altogether
                if self._writer.can_write_eof():
                    self._writer.write_eof()
            await asyncio.wait([sending])
        finally:
            writer.close()  # first: the wait below may be cancelled
            sending.cancel()
            await asyncio.wait([sending])

    async def _pump(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the receiving direction notices it as well
            while data := await self._reader.read(PIECE):
                await self._send(writer, data)
            if writer.can_write_eof():
                writer.write_eof()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self._traffic.sent += len(data)
        writer.write(data)
        await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(PIECE):
            self._traffic.received += len(data)
            self._writer.write(data)
            await self._writer.drain()

    def _note(self, problem: Problem) -> None:
        if problem.status == 403:
            self._traffic.refused += 1
            logger.info("%s: %s", self._rules.instance, problem, extra={"code": problem.code})


async def _read_chunk(reader: asyncio.StreamReader) -> bytes:
    """One chunk, b"" for the last; extensions and trailers are dropped."""
    size = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
    if not size or len(size) > 8 or size.strip(b"0123456789abcdefABCDEF"):
        raise _malformed("a chunk has no size")
    data = await reader.readexactly(int(size, 16))
    if data and await reader.readexactly(2) != b"\r\n":
        raise _malformed("a chunk is longer than its size")
    return data


def _target(netloc: str, *, default_port: int | None) -> Target:
    try:
        parts = urlsplit(netloc)
        host, port = parts.hostname, parts.port or default_port
    except ValueError as error:
        raise _malformed(str(error)) from error
    if not host or port is None or parts.username is not None:
        raise _malformed("the target is not host:port")
    return Target(host, port)


def _malformed(detail: str) -> BadInput:
    return BadInput(f"The proxy request is malformed: {detail}", code="malformed_request")
