"""Hands the listening sockets that live in sandboxes' networks to the gateway, whose egress proxy accepts on them.

The supervisor keeps each socket as long as its sandbox lives, so that a restarted gateway gets them again.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from typing import Any

logger = logging.getLogger("supervisor.egress")


class EgressOffers:
    """A SOCK_SEQPACKET pair; `theirs` is inherited by every gateway, one after the other."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._offers: dict[str, tuple[bytes, int]] = {}

    def offer(self, name: str, *, organization: str, network: Any, listening: int) -> None:
        """Offer the socket of one sandbox and keep it. `network`: internet, or a list of hosts."""
        message = json.dumps({"instance": name, "organization": organization, "network": network}).encode()
        self._offers[name] = (message, listening)
        self._send(message, listening)

    def withdraw(self, name: str) -> None:
        """The sandbox has gone; the gateway notices by itself."""
        offer = self._offers.pop(name, None)
        if offer is not None:
            os.close(offer[1])

    def offer_again(self) -> None:
        """A new gateway is there and needs all of them."""
        for message, listening in self._offers.values():
            self._send(message, listening)

    def _send(self, message: bytes, listening: int) -> None:
        try:
            socket.send_fds(self._ours, [message], [listening])
        except OSError as error:  # no gateway reads: the next one asks for all of them
            logger.warning("the gateway does not take egress sockets: %s", error)
