"""`python -m control_api.server`: the API, the journal and the reconciler. Started by the supervisor.

Its listening sockets are inherited as descriptors, so that callers wait rather than being refused while it restarts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
import uvloop

import domain.logging
from control_api.bootstrap import Server, Sockets, prepare
from control_api.settings import read_settings
from domain.clock import Clock, SystemClock
from local.supervisor.children import give_up
from orchestrator_runtime.contract.errors import Problem, Unavailable

logger = logging.getLogger("server")

DRAIN = 3  # seconds that open requests get after SIGTERM; live streams never end by themselves


class ApiServer(uvicorn.Server):
    """uvicorn without its own signal handling: the process has more to end than this."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(environ: Mapping[str, str], *, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT. Raises `Problem` if it cannot start."""
    settings = read_settings(environ)
    keys = await asyncio.to_thread(prepare, settings, clock=clock)
    sockets = _inherited(environ)
    server = await Server.create(settings, keys=keys, clock=clock, address=environ["ORCHESTRATOR_ADDRESS"])
    config = uvicorn.Config(
        server.app,
        log_config=None,
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
    )
    api = ApiServer(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, api, "should_exit", True)
    async with asyncio.TaskGroup() as tasks:
        rest = tasks.create_task(server.serve(sockets))
        await api.serve(sockets=[sockets.api])
        rest.cancel()
    await server.close()


def _inherited(environ: Mapping[str, str]) -> Sockets:
    def opened(name: str) -> socket.socket:
        listening = socket.socket(fileno=int(environ[f"ORCHESTRATOR_{name}_FD"]))
        listening.setblocking(False)
        return listening

    return Sockets(
        api=opened("API"),
        journal=opened("JOURNAL"),
        control=opened("CONTROL"),
        supervisor=environ["ORCHESTRATOR_SUPERVISOR_SOCKET"],
    )


def main() -> None:
    domain.logging.configure(os.environ.get("ORCHESTRATOR_LOG_LEVEL") or "INFO")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(serve(os.environ, clock=SystemClock()))
        except Problem as problem:
            logger.critical("%s", problem.in_words())
            if isinstance(problem, Unavailable):
                sys.exit(1)  # it may be mended by itself: the supervisor starts us again
            give_up(problem, os.environ)


if __name__ == "__main__":
    main()
