"""Hands the listening sockets that live in instances' networks to the gateway, whose egress proxy accepts on them.

The supervisor keeps each socket as long as its instance lives, so that a restarted gateway gets them again.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable

from local.supervisor.instances import Instance

logger = logging.getLogger("supervisor.egress")


class EgressOffers:
    """A SOCK_SEQPACKET pair; `theirs` is inherited by every gateway, one after the other."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.theirs.set_inheritable(True)

    def offer(self, instance: Instance) -> None:
        """Send one instance's socket with who it is and what it may reach."""
        if instance.egress is None:
            return
        message = {
            "instance": instance.id,
            "organization": instance.request.organization,
            "network": instance.request.start.get("network", "internet"),
        }
        try:
            socket.send_fds(self._ours, [json.dumps(message).encode()], [instance.egress])
        except OSError as error:  # no gateway reads: the next one asks for all of them
            logger.warning("the gateway does not take egress sockets: %s", error)

    def offer_again(self, instances: Iterable[Instance]) -> None:
        """A new gateway is there: it needs all of them. What an earlier one left unread is thrown away first."""
        self.theirs.setblocking(False)
        for instance in instances:
            self.offer(instance)
