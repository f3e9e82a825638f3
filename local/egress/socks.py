"""SOCKS5 (RFC 1928), as much as a client without a password needs: CONNECT to a name or an address."""

from __future__ import annotations

import asyncio
import socket

from orchestrator_runtime.contract.errors import BadInput, Problem

NO_AUTHENTICATION = 0
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
NOT_ALLOWED, UNREACHABLE, COMMAND_UNKNOWN = 2, 4, 7


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    """Greet, after the version byte was read, and return the host and port that is asked for.

    Raises `BadInput` for anything but CONNECT, and `EOFError` when the client goes away.
    """
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    if NO_AUTHENTICATION not in methods:
        writer.write(b"\x05\xff")
        raise EOFError("the client wants to authenticate")
    writer.write(b"\x05\x00")
    version, command, _, kind = await reader.readexactly(4)
    if version != 5 or command != CONNECT:
        raise BadInput("Only CONNECT of SOCKS5 is spoken here", code="socks_command")
    if kind == IPV4:
        host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
    elif kind == IPV6:
        host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    elif kind == NAME:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("latin-1")
    else:
        raise BadInput("An unknown kind of address", code="socks_address")
    return host, int.from_bytes(await reader.readexactly(2))


def refusal(problem: Problem) -> bytes:
    """SOCKS has no room for words: the reason is in our log."""
    code = {400: COMMAND_UNKNOWN, 403: NOT_ALLOWED}.get(problem.status, UNREACHABLE)
    return bytes((5, code)) + GRANTED[2:]
