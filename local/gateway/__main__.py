"""`python -m local.gateway`: started by the supervisor with the listening socket as an inherited descriptor."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
import sys
from collections.abc import Callable

import uvloop

from domain.clock import SystemClock
from domain.logging import configure
from local.egress.service import start_egress
from local.gateway.gateway import Gateway
from local.gateway.process import every, serve
from local.gateway.settings import Settings, read_settings
from local.gateway.tls import files_of
from orchestrator_runtime.contract.errors import Problem

LOOK_EVERY = 10.0  # seconds between looks at the files of a certificate

logger = logging.getLogger("gateway")


async def run(settings: Settings) -> None:
    """Everything that lives in this process, until it is told to end."""
    listening = socket.socket(fileno=settings.listen_fd)
    listening.setblocking(False)
    gateway = Gateway(settings, clock=SystemClock(), random=random.random)
    if settings.egress_fd is not None:
        egress = start_egress(settings.egress_fd, allow=settings.egress_allow)
        gateway.on_instance_exited = egress.close
        gateway.more_metrics = egress.metrics
    await serve(gateway, settings, listening, tls=_tls(gateway))


def _tls(gateway: Gateway) -> Callable[[], ssl.SSLContext] | None:
    """The context of the certificate as it is now, if there is one; whoever renews it need not tell."""
    files = files_of(os.environ)
    if files is None:
        return None
    from local.gateway.certificates import Renewed  # cryptography is slow to import, and only TLS needs it

    certificate = Renewed(files, clock=SystemClock())
    gateway.spawn(every(LOOK_EVERY, certificate.look))
    return lambda: certificate.current.context


def main() -> None:
    settings = read_settings(os.environ)
    configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run(settings))
        except Problem as problem:
            logger.critical("%s", problem.in_words())
            sys.exit(1)


if __name__ == "__main__":
    main()
