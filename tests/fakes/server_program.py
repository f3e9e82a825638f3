"""The server's process as supervisor and gateway see it: serves control.sock, subscribes, and ends on SIGTERM.

Tests put a `control_api/server.py` that calls `main` before the real one on the path of a supervisor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

from orchestrator_runtime.contract.wire import Message, Peer, connect
from tests.fakes.control_server import FakeServer, create_route


def credentials(peer: Peer, message: Message) -> Message:
    return Message({"journal_token": "token", "expires": 2e9, "secrets": {}})


async def serve() -> None:
    server = FakeServer(Path(os.environ["ORCHESTRATOR_HOME"], "unused"))
    server.push(create_route())
    await server.serve(socket.socket(fileno=int(os.environ["ORCHESTRATOR_CONTROL_FD"])))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    supervisor = await connect(
        os.environ["ORCHESTRATOR_SUPERVISOR_SOCKET"],
        {"instance.credentials": credentials, "leases.renew": lambda peer, message: None},
    )
    await supervisor.call("subscribe", {"role": "server"})
    await stopping.wait()


def main() -> None:
    asyncio.run(serve())
