"""Takes the ways out of instances' networks from the supervisor: serves a proxy on each listening socket, and a relay
between each device and its slirp4netns.

They come over a SOCK_SEQPACKET pair, as datagrams {"instance", "organization", "network", "trusted"} with one
descriptor, a listening socket, or {"instance", "organization"} with two, a device and slirp4netns' socket. One without
a descriptor says that the instance, or a build, has gone. All of its are closed then: they would keep the network
namespace alive.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from local.egress.policy import Allowance, Network, parse_allowances, plain_name
from local.egress.proxy import Connection, Resolve, Rules, resolve
from local.egress.relay import Relay
from local.egress.traffic import Traffic
from local.gateway.metrics import Page

logger = logging.getLogger("egress.service")

DATAGRAM_BYTES = 64 * 1024


@dataclass(slots=True)
class Served:
    """One instance's ways out; whichever comes first."""

    organization: str
    traffic: Traffic = field(default_factory=Traffic)
    server: asyncio.AbstractServer | None = None
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    relay: Relay | None = None


class Egress:
    """All ways out. `resolver` is a port: tests decide what names mean."""

    def __init__(self, *, allowed: frozenset[Allowance], resolver: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolver
        self._served: dict[str, Served] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._past: dict[str, Traffic] = {}  # of instances that have gone, by organization

    def listen_for_sockets(self, pair: socket.socket) -> None:
        pair.setblocking(False)
        asyncio.get_running_loop().add_reader(pair, self._datagram, pair)

    def _datagram(self, pair: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(pair, DATAGRAM_BYTES, 4)
        except BlockingIOError:  # another wake-up took it
            return
        except OSError:
            data, fds = b"", []  # as good as the end
        if not data:
            asyncio.get_running_loop().remove_reader(pair)
            return
        try:
            message = json.loads(data)
            instance, organization = str(message["instance"]), str(message["organization"] if fds else "")
            network = message.get("network", "internet")
            trusted = frozenset(map(plain_name, message.get("trusted", ())))
        except (ValueError, KeyError, TypeError):
            logger.error("The supervisor sent an egress socket without saying whose it is")  # noqa: TRY400 - no cause
            for fd in fds:
                os.close(fd)
            return
        if not fds:
            self.close(instance)
        elif len(fds) == 2:
            self.relay(fds[0], socket.socket(fileno=fds[1]), instance, organization)
        else:
            task = asyncio.get_running_loop().create_task(
                self.serve(socket.socket(fileno=fds[0]), instance, organization, network, trusted=trusted)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def serve(
        self,
        listening: socket.socket,
        instance: str,
        organization: str,
        network: str | Sequence[str],
        *,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        """Accept on `listening` for this instance until `close`. `trusted` hosts may have private addresses."""
        served = self._entry(instance, organization)
        if served.server is not None:  # the supervisor offers everything anew
            served.server.close()
        allowed_hosts: Network = network if isinstance(network, str) else tuple(network)
        rules = Rules(
            instance=instance, network=allowed_hosts, allowed=self._allowed, resolve=self._resolve, trusted=trusted
        )
        listening.setblocking(False)
        server = await asyncio.start_server(partial(self._accept, served, rules), sock=listening)
        if self._served.get(instance) is served:
            served.server = server
        else:  # the instance ended while its socket was being opened
            server.close()

    def relay(self, device: int, slirp: socket.socket, instance: str, organization: str) -> None:
        """Carry frames between an instance's device and its slirp4netns until that ends, or until `close`."""
        served = self._entry(instance, organization)
        if served.relay is not None:
            served.relay.close()
        served.relay = Relay(instance, device, slirp, traffic=served.traffic, allowed=self._allowed)

    def _entry(self, instance: str, organization: str) -> Served:
        return self._served.setdefault(instance, Served(organization))

    def _accept(self, served: Served, rules: Rules, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, rules=rules, traffic=served.traffic)
        task = asyncio.get_running_loop().create_task(connection.serve())
        served.connections.add(task)
        task.add_done_callback(served.connections.discard)

    def close(self, instance: str) -> None:
        """The instance has gone: its socket and its connections go too."""
        served = self._served.pop(instance, None)
        if served is None:
            return
        if served.server is not None:
            served.server.close()
        if served.relay is not None:
            served.relay.close()
        for task in served.connections:
            task.cancel()
        past = self._past.setdefault(served.organization, Traffic())
        for name in Traffic.__slots__:
            setattr(past, name, getattr(past, name) + getattr(served.traffic, name))

    def traffic(self, instance: str) -> Traffic:
        """What a living instance sent and received."""
        return self._served[instance].traffic

    def metrics(self, page: Page) -> None:
        """Counters by organization: they outlive the instances."""
        sums = {organization: [past] for organization, past in self._past.items()}
        for served in self._served.values():
            sums.setdefault(served.organization, []).append(served.traffic)
        for name, text in (
            ("sent", "Bytes that agents sent to the outside."),
            ("received", "Bytes that agents received from the outside."),
            ("connections", "Connections that agents asked for."),
            ("refused", "Connections that were refused by policy."),
        ):
            page.family(
                f"orchestrator_egress_{name}_total",
                "counter",
                text,
                [({"organization": key}, sum(getattr(each, name) for each in all_)) for key, all_ in sums.items()],
            )


def start_egress(descriptor: int, *, allow: Sequence[str]) -> Egress:
    """Serve the sockets that come over `descriptor`. Raises `ValueError` for an allowance that is not host:port."""
    egress = Egress(allowed=parse_allowances(allow))
    egress.listen_for_sockets(socket.socket(fileno=descriptor))
    return egress
