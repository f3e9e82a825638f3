"""Hands the listening sockets that live in sandboxes' networks to the gateway, whose egress proxy accepts on them.

The supervisor keeps each socket as long as its sandbox lives, so that a restarted gateway gets them again.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Collection
from typing import Any


class EgressOffers:
    """A SOCK_SEQPACKET pair; `theirs` is inherited by every gateway, one after the other."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._offers: dict[str, tuple[bytes, int]] = {}
        self._untold: deque[str] = deque()  # names that the gateway has yet to be told of

    def offer(
        self, name: str, *, organization: str, network: Any, listening: int, trusted: Collection[str] = ()
    ) -> None:
        """Offer the socket of one sandbox and keep it. `network`: internet, or a list of hosts.

        `trusted`: hosts that the operator's own configuration names; they may have private addresses.
        """
        message = {"instance": name, "organization": organization, "network": network, "trusted": sorted(trusted)}
        self._offers[name] = (json.dumps(message).encode(), listening)
        self._tell(name)

    def withdraw(self, name: str) -> None:
        """The sandbox has gone: its socket is closed at both ends, or it would keep the network alive."""
        offer = self._offers.pop(name, None)
        if offer is not None:
            os.close(offer[1])
            self._tell(name)

    def offer_again(self) -> None:
        """A new gateway is there and needs all of them."""
        self._untold = deque(self._offers)
        self._flush()

    def _tell(self, name: str) -> None:
        self._untold.append(name)
        self._flush()

    def _flush(self) -> None:
        """Say of each name what is true of it now, as far as the gateway reads."""
        loop = asyncio.get_running_loop()
        while self._untold:
            message, *listening = self._offers.get(self._untold[0]) or (_gone(self._untold[0]),)
            try:
                socket.send_fds(self._ours, [message], listening)
            except BlockingIOError:  # it is busy, or being restarted
                loop.add_writer(self._ours, self._flush)
                return
            self._untold.popleft()
        loop.remove_writer(self._ours)


def _gone(name: str) -> bytes:
    return json.dumps({"instance": name}).encode()
