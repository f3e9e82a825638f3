"""The gateway's process: sockets, ticks, signals, and an end that lets open calls finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from local.autoscaler import SECONDS_BETWEEN_DECISIONS
from local.gateway.client import ClientConnection
from local.gateway.gateway import Gateway
from local.gateway.liveness import PROBE_EVERY
from local.gateway.settings import Settings
from local.gateway.tls_listener import TlsListener

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


class Listener(Protocol):
    """What takes connections."""

    def close(self) -> None: ...


async def serve(
    gateway: Gateway,
    settings: Settings,
    listening: socket.socket,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, then drain. `tls()` gives the context for the next connection."""
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
    routed, stopped = loop.create_task(_routed(gateway)), loop.create_task(stopping.wait())
    # After the timeout it serves without: the API and /healthz need no routes.
    await asyncio.wait((routed, stopped), timeout=ROUTES_WAIT, return_when=asyncio.FIRST_COMPLETED)
    routed.cancel()
    server: Listener
    if tls is None:
        server = await loop.create_server(lambda: ClientConnection(gateway), sock=listening, backlog=BACKLOG)
    else:
        server = TlsListener(gateway, listening, context=tls)
    logger.info("Serving")
    await stopped
    await _drain(gateway, server, settings)
    await gateway.stop()


async def _routed(gateway: Gateway) -> None:
    await gateway.supervisor.ready()
    await gateway.routed()


async def _drain(gateway: Gateway, server: Listener, settings: Settings) -> None:
    """Take no new connections, and give open calls their time."""
    gateway.draining = True
    server.close()
    for client in list(gateway.clients):
        client.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gateway.quiet(), settings.drain)
    logger.info("Drained; %d calls were cut", gateway.open_calls)
