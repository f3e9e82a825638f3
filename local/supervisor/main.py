"""`python -m local.supervisor`: open the sockets, start everything, keep it running, and end it cleanly.

Started by `orchestrator up`; ends on SIGTERM or SIGINT, and everything below it ends with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TextIO

import domain.logging
from domain.clock import Clock, SystemClock
from domain.home import Home
from local.environments.indexes import operator_hosts
from local.gateway.tls import Certificate, address_of, serving
from local.sandbox.supervise import prepare_supervisor
from local.supervisor.children import Child, ChildSpec
from local.supervisor.control import Control
from local.supervisor.egress import EgressOffers
from local.supervisor.instances import Instances
from local.supervisor.logs import RevisionLogs
from local.supervisor.sandboxes import Sandboxes
from local.supervisor.sockets import listen_tcp, listen_unix
from orchestrator_runtime.contract.errors import Conflict, Problem

logger = logging.getLogger("supervisor")

HOST = "127.0.0.1"
PORT = 4100
LEASE_RENEWAL = 5.0  # seconds; a lease lasts three of them
TOKEN_RENEWAL = 60.0
STOP_GRACE = 10.0  # what instances get when everything ends
CHILD_GRACE = 5.0
SERVER_ONLY = ("ORCHESTRATOR_DATABASE", "ORCHESTRATOR_ENCRYPTION_", "ORCHESTRATOR_VAULT_")  # settings with secrets
OPEN_FILES = 65536  # a call in progress takes two of the gateway's; most systems allow a program 1024 unless it asks


class Supervisor:
    """One running installation. `ready` gets the address as a line once server and gateway serve."""

    def __init__(
        self,
        home: Home,
        *,
        host: str,
        port: int,
        certificate: Certificate | None,
        ready: TextIO | None,
        environ: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._home = home
        self._host = host
        self._port = port
        self._certificate = certificate
        self._ready = ready
        self._environ = environ
        self._clock = clock
        self._stop = asyncio.Event()
        self._problem: Problem | None = None

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises the `Problem` for which the server cannot be started."""
        home = self._home
        home.instance_sockets.mkdir(mode=0o700, exist_ok=True)
        for left_over in home.instance_sockets.iterdir():
            left_over.unlink()
        gateway_listening = listen_tcp(self._host, self._port)
        address = address_of(self._certificate, host=self._host, port=gateway_listening.getsockname()[1])
        api, control_listening, journal, supervising = (
            listen_unix(home.api_socket),
            listen_unix(home.control_socket),
            listen_unix(home.journal_socket, mode=0o666),  # instances of every organization; the token decides
            listen_unix(home.supervisor_socket),
        )
        egress = EgressOffers()
        index_hosts = operator_hosts(self._environ)
        sandboxes = Sandboxes(home, egress=egress, clock=self._clock, index_hosts=index_hosts)
        logs = RevisionLogs(home)
        control = Control(sandboxes)
        instances = Instances(
            folder=home.instance_sockets,
            forker=sandboxes,
            credentials=control.credentials,
            announce=control.announce,
            egress=egress,
            log_for=logs.of,
            clock=self._clock,
        )
        control.instances = instances
        control.on_gateway = egress.offer_again
        loop = asyncio.get_running_loop()
        serving = await loop.create_unix_server(control.peer, sock=supervising)
        common = {
            **self._environ,
            "ORCHESTRATOR_HOME": str(home.root),
            "ORCHESTRATOR_SUPERVISOR_SOCKET": str(home.supervisor_socket),
            "ORCHESTRATOR_ADDRESS": address,
        }
        server = self._server(common, api=api, journal=journal, control=control_listening)
        gateway = self._gateway(common, listening=gateway_listening, egress=egress.theirs)
        home.address.write_text(address + "\n")
        if self._port and gateway_listening.getsockname()[1] != self._port:
            logger.warning("port %s is taken: serving at %s", self._port, address)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._keep(server)),
                tasks.create_task(gateway.run()),
                tasks.create_task(self._say_ready(control, address)),
                tasks.create_task(_every(LEASE_RENEWAL, control.renew_leases)),
                tasks.create_task(self._renew_tokens(instances)),
                tasks.create_task(sandboxes.keep()),
            ]
            await self._stop.wait()
            logger.info("stopping")
            gateway_listening.close()  # whoever comes now is refused
            await _end(gateway, server, instances=instances, sandboxes=sandboxes)
            for task in running:
                task.cancel()
        serving.close()
        if self._problem is not None:
            raise self._problem

    def _server(
        self, common: Mapping[str, str], *, api: socket.socket, journal: socket.socket, control: socket.socket
    ) -> Child:
        env = {
            **common,
            "ORCHESTRATOR_API_FD": str(api.fileno()),
            "ORCHESTRATOR_JOURNAL_FD": str(journal.fileno()),
            "ORCHESTRATOR_CONTROL_FD": str(control.fileno()),
        }
        descriptors = (api.fileno(), journal.fileno(), control.fileno())
        return Child(ChildSpec("server", "control_api.server", env, descriptors), clock=self._clock)

    def _gateway(self, common: Mapping[str, str], *, listening: socket.socket, egress: socket.socket) -> Child:
        env = {
            **{name: value for name, value in common.items() if not name.startswith(SERVER_ONLY)},
            "ORCHESTRATOR_LISTEN_FD": str(listening.fileno()),
            "ORCHESTRATOR_EGRESS_FD": str(egress.fileno()),
            "ORCHESTRATOR_CONTROL_SOCKET": str(self._home.control_socket),
            "ORCHESTRATOR_API_SOCKET": str(self._home.api_socket),
        }
        descriptors = (listening.fileno(), egress.fileno())
        return Child(ChildSpec("gateway", "local.gateway", env, descriptors), clock=self._clock)

    async def _keep(self, server: Child) -> None:
        """Without a server nothing works: when it gives up, everything ends."""
        try:
            await server.run()
        except Problem as problem:
            self._problem = problem
            self.stop()

    async def _say_ready(self, control: Control, address: str) -> None:
        await control.both_there()
        logger.info("serving at %s", address)
        if self._ready is not None:
            self._ready.write(address + "\n")
            self._ready.close()

    async def _renew_tokens(self, instances: Instances) -> None:
        while True:
            await asyncio.sleep(TOKEN_RENEWAL)
            # Without a server there is nobody to ask, and nobody who would check the token either.
            with contextlib.suppress(Problem):
                await instances.renew_tokens(older_than=self._clock.now().timestamp() + 2 * TOKEN_RENEWAL)


async def _end(gateway: Child, server: Child, *, instances: Instances, sandboxes: Sandboxes) -> None:
    """What has come is answered while the instances are still there, and recorded while the server is."""
    gateway.terminate()
    await instances.stop_all(grace=STOP_GRACE)
    await gateway.stop(grace=CHILD_GRACE)
    await server.stop(grace=CHILD_GRACE)
    await sandboxes.stop()


async def _every(seconds: float, action: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        action()


def lock(home: Home) -> int:
    """Take the installation's lock, which lasts as long as the process. Raises `Conflict` if another one has it."""
    held = os.open(home.supervisor_pid, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise Conflict(
            f"Orchestrator is already running for {home.root}",
            code="already_running",
            hint="`orchestrator status` shows it, `orchestrator down` stops it.",
        ) from error
    os.ftruncate(held, 0)
    os.write(held, f"{os.getpid()}\n".encode())
    return held


def allow_open_files() -> None:
    """Let this process, and what it starts, open as many files as the system's administrator lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(home: Home, *, port: int, ready: TextIO | None) -> None:
    clock = SystemClock()
    host = os.environ.get("ORCHESTRATOR_HOST") or HOST
    certificate = serving(os.environ, host=host, now=clock.now())
    supervisor = Supervisor(
        home, host=host, port=port, certificate=certificate, ready=ready, environ=os.environ, clock=clock
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()


def fail(problem: Problem, ready: TextIO | None) -> NoReturn:
    """End with the reason; who still waits for the address gets it as a problem document."""
    if ready is not None and not ready.closed:
        with contextlib.suppress(BrokenPipeError), ready:  # nobody waits any more
            ready.write(json.dumps(problem.document()) + "\n")
    sys.exit(problem.in_words())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, help="data folder (ORCHESTRATOR_HOME)")
    parser.add_argument("--port", type=int, default=PORT, help="the next free one is used if it is taken")
    parser.add_argument(
        "--ready-fd", type=int, help="gets the address as a line when everything serves, or why it cannot"
    )
    arguments = parser.parse_args()
    home = Home(arguments.home.absolute()) if arguments.home else Home.from_environment(os.environ)
    domain.logging.configure(os.environ.get("ORCHESTRATOR_LOG_LEVEL", "INFO"))
    ready = None if arguments.ready_fd is None else os.fdopen(arguments.ready_fd, "w")
    try:
        home.make()
        held = lock(home)
    except Problem as problem:
        fail(problem, ready)
    try:
        allow_open_files()
        prepare_supervisor()
        asyncio.run(serve(home, port=arguments.port, ready=ready))
    except Problem as problem:
        fail(problem, ready)
    finally:
        os.ftruncate(held, 0)
