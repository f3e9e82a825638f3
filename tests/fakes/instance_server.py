"""An instance that does what its caller's path says, over a real Unix socket. Every request it gets is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

LARGE = b"x" * 4_000_000


@dataclass(slots=True)
class Received:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class FakeInstance:
    """/sse, /hold, /die, /cut, /endless, /cookie, /upgrade, /close; anything else is answered with its description."""

    id: str
    path: Path
    received: list[Received] = field(default_factory=list)
    arrived: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    deaf: bool = False  # to probes: hangs up on them
    finished: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    probed: int = 0
    _server: asyncio.AbstractServer | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    def kill(self) -> None:
        """Like kill -9: every connection breaks, and the socket is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self.path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # killed in the meantime
            writer.transport.abort()
            return
        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                while True:
                    request = await _read(reader)
                    if "orchestrator-probe" in request.headers:
                        self.probed += 1
                        if not self.deaf:
                            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                        break
                    self.received.append(request)
                    self.arrived.put_nowait(request)
                    await self._answer(request, reader, writer)
                    await writer.drain()
                    self.finished.put_nowait(request.target)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = request.target.partition("?")[0]
        if path == "/die":
            self.kill()
        elif path == "/cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            await writer.drain()
            writer.close()
        elif path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(10):  # as much as a test needs
                writer.write(b"x: " + b"y" * 50_000 + b"\r\n")
                await writer.drain()
        elif path == "/close":
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end")
            await writer.drain()
            writer.close()
        elif path == "/sse":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(_chunk(b"data: one\n\n"))
            await writer.drain()
            await self.release.wait()
            writer.write(_chunk(b"data: two\n\n") + b"0\r\n\r\n")
        elif path == "/cookie":
            cookie = request.headers.get("cookie", "own=0")
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nset-cookie: {cookie}\r\n\r\n".encode())
        elif path == "/upgrade":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            while data := await reader.read(65536):
                writer.write(data)
        else:
            if path == "/hold":
                await self.release.wait()
            body = LARGE if path == "/large" else json.dumps(self._description(request)).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + (b"" if request.method == "HEAD" else body))

    def _description(self, request: Received) -> dict[str, object]:
        return {
            "instance": self.id,
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "body": request.body.decode("latin-1"),
        }


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name: value for name, _, value in (field.partition(": ") for field in rest)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    return Received(method, target, headers, body)
