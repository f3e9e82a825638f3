"""`python -m local.gateway`: started by the supervisor with the listening socket as an inherited descriptor."""

from __future__ import annotations

import asyncio
import os
import random
import socket

import uvloop

from domain.clock import SystemClock
from domain.logging import configure
from local.egress.service import start_egress
from local.gateway.gateway import Gateway
from local.gateway.process import serve
from local.gateway.settings import Settings, read_settings


async def run(settings: Settings) -> None:
    """Everything that lives in this process, until it is told to end."""
    listening = socket.socket(fileno=settings.listen_fd)
    listening.setblocking(False)
    gateway = Gateway(settings, clock=SystemClock(), random=random.random)
    if settings.egress_fd is not None:
        egress = start_egress(settings.egress_fd, allow=settings.egress_allow)
        gateway.on_instance_exited = egress.close
        gateway.more_metrics = egress.metrics
    await serve(gateway, settings, listening)


def main() -> None:
    settings = read_settings(os.environ)
    configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))


if __name__ == "__main__":
    main()
