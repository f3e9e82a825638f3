"""Hands the sandboxes' ways out to the gateway: listening sockets, whose connections its egress proxy accepts, and
devices with the slirp4netns that their frames go to.

The supervisor keeps each descriptor as long as its sandbox lives, so that a restarted gateway gets them again.
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
        self._offers: dict[str, tuple[bytes, tuple[int, ...]]] = {}
        self._untold: deque[str] = deque()  # names that the gateway has yet to be told of

    def offer(
        self, name: str, *, organization: str, network: Any, listening: int, trusted: Collection[str] = ()
    ) -> None:
        """Offer the socket of one sandbox and keep it. `network`: internet, or a list of hosts.

        `trusted`: hosts that the operator's own configuration names; they may have private addresses.
        """
        message = {"instance": name, "organization": organization, "network": network, "trusted": sorted(trusted)}
        self._offers[name] = (json.dumps(message).encode(), (listening,))
        self._tell(name)

    def offer_device(self, name: str, *, organization: str, device: int, slirp: int) -> None:
        """Offer an instance's device and the socket of its slirp4netns; both are kept."""
        self.withdraw_device(name)
        message = {"instance": name, "organization": organization}
        self._offers[_device_of(name)] = (json.dumps(message).encode(), (device, slirp))
        self._tell(_device_of(name))

    def withdraw_device(self, name: str) -> None:
        """Its slirp4netns has gone, which the gateway notices by itself."""
        self._close(_device_of(name))

    def withdraw(self, name: str) -> None:
        """The sandbox has gone: what is its is closed at both ends, or it would keep the network alive."""
        self.withdraw_device(name)
        if self._close(name):
            self._tell(name)

    def _close(self, name: str) -> bool:
        offer = self._offers.pop(name, None)
        for descriptor in offer[1] if offer is not None else ():
            os.close(descriptor)
        return offer is not None

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
            message, descriptors = self._offers.get(self._untold[0]) or (_gone(self._untold[0]), ())
            try:
                socket.send_fds(self._ours, [message], descriptors)
            except BlockingIOError:  # it is busy, or being restarted
                loop.add_writer(self._ours, self._flush)
                return
            self._untold.popleft()
        loop.remove_writer(self._ours)


def _device_of(name: str) -> str:
    return f"{name} device"


def _gone(name: str) -> bytes:
    return json.dumps({"instance": name}).encode()
