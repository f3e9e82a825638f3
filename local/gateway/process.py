"""The gateway's process: sockets, ticks, signals, and an end that lets open calls finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable

from local.autoscaler import SECONDS_BETWEEN_DECISIONS
from local.gateway.client import ClientConnection
from local.gateway.gateway import Gateway
from local.gateway.liveness import PROBE_EVERY
from local.gateway.settings import Settings

logger = logging.getLogger("gateway.process")

SWEEP_EVERY = 0.25  # seconds
MEASURE_EVERY = 1.0
ROUTES_WAIT = 5.0  # seconds that callers wait in the backlog for the first routes, rather than being refused
BACKLOG = 4096


async def every(seconds: float, work: Callable[[], None]) -> None:
    """Call `work` again and again; a failure is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            work()
        except Exception:  # a border: one defect must not stop scaling for all
            logger.exception("A periodic task failed")


async def serve(gateway: Gateway, settings: Settings, listening: socket.socket) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    for work in (
        gateway.server.run(),
        gateway.supervisor.run(),
        every(SWEEP_EVERY, gateway.sweep),
        every(MEASURE_EVERY, gateway.measure),
        every(SECONDS_BETWEEN_DECISIONS, gateway.decide),
        every(PROBE_EVERY, gateway.probe),
    ):
        gateway.spawn(work)
    with contextlib.suppress(TimeoutError):  # serve without: the API and /healthz need no routes
        async with asyncio.timeout(ROUTES_WAIT):
            await gateway.supervisor.ready()
            await gateway.routed()
    server = await loop.create_server(lambda: ClientConnection(gateway), sock=listening, backlog=BACKLOG)
    logger.info("Serving")
    await stopping.wait()
    await _drain(gateway, server, settings)
    await gateway.stop()


async def _drain(gateway: Gateway, server: asyncio.AbstractServer, settings: Settings) -> None:
    """Take no new connections, and give open calls their time."""
    gateway.draining = True
    server.close()
    for client in list(gateway.clients):
        client.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gateway.quiet(), settings.drain)
    logger.info("Drained; %d calls were cut", gateway.open_calls)
