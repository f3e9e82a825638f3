"""What an instance does once it is isolated: load its agent, say so, serve calls until it is told to drain.

`serve` is called by `instance` after the fork. Importing this module starts nothing: a zygote does it beforehand.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from orchestrator_runtime import output, unreachable
from orchestrator_runtime.app import App
from orchestrator_runtime.connection import Connection, Received
from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.instance import JOURNAL_SOCKET, InstanceStart
from orchestrator_runtime.frameworks import entrypoint, recording
from orchestrator_runtime.frameworks.adapter import Agent
from orchestrator_runtime.redaction import create_redactor

DATAGRAM_BYTES = 256 * 1024
BACKLOG = 2048
STUCK = 71  # exit status


def serve(
    start: InstanceStart, *, listen: socket.socket, control: socket.socket, journal: str = JOURNAL_SOCKET
) -> None:
    """Serve until drained. Ends by `SystemExit` if the agent cannot be loaded, after it has said why."""
    redact = create_redactor(start.secrets.values())
    server = Server(start, journal=journal, redact=redact, end_output=output.install(redact))
    recording.install()
    began = time.perf_counter()
    try:
        agent = entrypoint.load(start, source=Path.cwd())
    except Problem as problem:
        problem.detail = redact(problem.detail)
        problem.hint = f"{unreachable.hint(problem, start.network)} {problem.hint}".strip()
        _tell(control, {"event": "failed", "problem": problem.document()})
        raise SystemExit(1) from None
    _tell(control, {"event": "ready", "load_ms": round((time.perf_counter() - began) * 1000, 1)})
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    # Not closed: that would wait for threads of the agent's. The process ends right after.
    loop.run_until_complete(server.run(agent, listen=listen, control=control))


def give_up(run: str) -> None:
    """End this process at once: code that cannot be stopped must not go on. Its other runs become new attempts."""
    sys.stderr.write(f"run {run} was told to stop and did not: its instance ends\n")
    sys.stderr.flush()
    os._exit(STUCK)


class Server:
    """One instance's listening socket, journal connection and control socket.

    Made before the agent is loaded, so that all that is ours is imported whatever the agent's modules are called.
    """

    def __init__(
        self,
        start: InstanceStart,
        *,
        journal: str,
        redact: Callable[[str], str],
        end_output: Callable[[str], None],
        on_stuck: Callable[[str], None] = give_up,
    ) -> None:
        self._app = App(
            start,
            journal=journal,
            redact=redact,
            end_output=end_output,
            on_idle=self._check,
            on_stuck=on_stuck,
        )
        self.body_limit = start.payload_limit
        self._connections: set[Connection] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._draining = False
        self._drained = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, agent: Agent, *, listen: socket.socket, control: socket.socket) -> None:
        """Serve until drained: everything that came has been answered, and the last byte has left."""
        loop = asyncio.get_running_loop()
        self._app.agent = agent
        connecting = loop.create_task(self._app.client.run())
        listen.setblocking(False)
        self._listening = await loop.create_unix_server(lambda: Connection(self), sock=listen, backlog=BACKLOG)
        control.setblocking(False)
        loop.add_reader(control.fileno(), self._heard, control)
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        try:
            await self._drained.wait()
        finally:
            loop.remove_reader(control.fileno())
            loop.remove_signal_handler(signal.SIGTERM)
            await self._app.close()
            connecting.cancel()
            await asyncio.wait([connecting])

    # Owner: connections are closed by the platform, so that it never writes to one that we just closed

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._check()

    def handle(self, request: Received, connection: Connection) -> None:
        call = asyncio.get_running_loop().create_task(self._app.handle(request, connection))
        self._calls.add(call)
        call.add_done_callback(partial(self._handled, connection))

    def _handled(self, connection: Connection, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and call.exception() is not None:  # a defect of ours: it costs one connection
            traceback.print_exception(call.exception())
            connection.abort()

    # draining

    def drain(self) -> None:
        """Take no new connections; end when the calls that came are answered."""
        if not self._draining:
            self._draining = True
            self._listening.close()
            self._check()

    def _check(self) -> None:
        """Go on with the drain, if there is one."""
        if not self._draining or self._app.calls:
            return
        for connection in list(self._connections):
            connection.shut_down()
        if not self._connections:
            self._drained.set()

    def _heard(self, control: socket.socket) -> None:
        try:
            data = control.recv(DATAGRAM_BYTES)
        except BlockingIOError:  # another wake-up took it
            return
        except OSError:
            data = b""
        if not data:  # the supervisor is gone; it takes us along, but what is running may yet end by itself
            asyncio.get_running_loop().remove_reader(control.fileno())
            self.drain()
            return
        message = json.loads(data)
        if message["event"] == "drain":
            self.drain()
        elif message["event"] == "token":
            renewing = asyncio.create_task(self._app.client.renew(message["journal_token"]))
            self._tasks.add(renewing)
            renewing.add_done_callback(self._tasks.discard)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:  # the supervisor is gone, and so are we in a moment
        return
