"""`python -m tests.fakes.sandbox_keeper HOME`: the supervisor's sandboxes and instances and the gateway's egress,
without the server and the gateway themselves. Speaks the real protocol on HOME's supervisor.sock; instances run
`escape_server`.

ORCHESTRATOR_EGRESS_ALLOW as for the gateway. Names that end in `.private.test` have a private address, others loopback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from domain.clock import SystemClock
from domain.home import Home
from local.egress.policy import parse_allowances
from local.egress.service import Egress
from local.sandbox.supervise import prepare_supervisor
from local.supervisor.control import Control
from local.supervisor.egress import EgressOffers
from local.supervisor.instances import Instances
from local.supervisor.logs import RevisionLogs
from local.supervisor.sandboxes import Sandboxes
from local.supervisor.sockets import listen_unix


async def resolve(host: str, port: int) -> Sequence[IPv4Address | IPv6Address]:
    return [IPv4Address("10.1.2.3" if host.endswith(".private.test") else "127.0.0.1")]


async def keep(home: Home) -> None:
    home.instance_sockets.mkdir(mode=0o700)
    others = [listen_unix(path) for path in (home.api_socket, home.control_socket)]
    others.append(listen_unix(home.journal_socket, mode=0o666))
    clock = SystemClock()
    offers = EgressOffers()
    allowed = os.environ.get("ORCHESTRATOR_EGRESS_ALLOW", "").split()
    egress = Egress(allowed=parse_allowances(allowed), resolver=resolve)
    egress.listen_for_sockets(offers.theirs)
    sandboxes = Sandboxes(home, egress=offers, clock=clock, server="escape_server")
    control = Control(sandboxes)
    control.instances = Instances(
        folder=home.instance_sockets,
        forker=sandboxes,
        credentials=control.credentials,
        announce=control.announce,
        egress=offers,
        log_for=RevisionLogs(home).of,
        clock=clock,
    )
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(control.peer, sock=listen_unix(home.supervisor_socket))
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    keeping = asyncio.create_task(sandboxes.keep())
    print("ready", flush=True)
    await stopping.wait()
    keeping.cancel()
    await sandboxes.stop()


def main() -> None:
    home = Home(Path(sys.argv[1]))
    home.make()
    prepare_supervisor()
    asyncio.run(keep(home))


if __name__ == "__main__":
    main()
