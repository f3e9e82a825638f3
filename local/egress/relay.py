"""Carries frames between an instance's device and its slirp4netns: checked, counted, and answered where refused.

One per instance whose programs ignored the proxy, in the gateway. Each end is a descriptor that gives and takes one
frame at a time. It keeps at most one frame, and reads no more of them while slirp4netns is behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from ipaddress import IPv4Address

from local.egress import packets
from local.egress.policy import Allowance
from local.egress.traffic import Traffic

logger = logging.getLogger("egress.relay")

LARGEST = 65536 + 14
MOST_NOTED = 16
AT_ONCE = 32  # frames, until others have their turn
PAUSE = 0.001  # seconds between as many that leave: whoever sends more must not take the gateway's time from others


class Relay:
    """Works until slirp4netns ends or `close`; then both descriptors are closed."""

    def __init__(
        self, instance: str, device: int, slirp: socket.socket, *, traffic: Traffic, allowed: frozenset[Allowance]
    ) -> None:
        self._instance = instance
        self._device = device
        self._slirp = slirp
        self._traffic = traffic
        self._allowed = allowed
        self._waiting = b""
        self._noted: set[IPv4Address] = set()
        self._open = True
        self._loop = asyncio.get_running_loop()
        os.set_blocking(device, False)
        slirp.setblocking(False)
        self._loop.add_reader(device, self._leaving)
        self._loop.add_reader(slirp, self._arriving)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._device)
        self._loop.remove_reader(self._slirp)
        self._loop.remove_writer(self._slirp)
        os.close(self._device)
        self._slirp.close()

    def _leaving(self) -> None:
        for _ in range(AT_ONCE):
            try:
                frame = os.read(self._device, LARGEST)
            except BlockingIOError:  # no more
                return
            except OSError as error:  # the network has gone, and with it the instance
                logger.debug("%s: its device ended: %s", self._instance, error)
                self.close()
                return
            if self._may_leave(frame) and not self._send(frame):
                return
        self._loop.remove_reader(self._device)
        self._loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._open:
            self._loop.add_reader(self._device, self._leaving)

    def _may_leave(self, frame: bytes) -> bool:
        """Whether to send it on; what is refused is counted and answered, what nobody could take is dropped."""
        packet = packets.read(frame)
        if packet is None:
            return frame[12:14] == packets.ARP
        reason = packets.why_not(packet, allowed=self._allowed)
        if reason is not None:
            self._traffic.refused += 1
            self._note(packet.destination, reason)
            self._deliver(packets.refusal(frame))
            return False
        self._traffic.connections += packet.opens
        self._traffic.sent += len(frame)
        return True

    def _note(self, destination: IPv4Address, reason: str) -> None:
        """Once per destination, and not of all: a program may send as many packets as it likes."""
        if destination not in self._noted and len(self._noted) < MOST_NOTED:
            self._noted.add(destination)
            logger.info("%s: packets to %s are refused: %s", self._instance, destination, reason)

    def _send(self, frame: bytes) -> bool:
        """Whether there may be another one."""
        try:
            self._slirp.send(frame)
        except BlockingIOError:  # it is behind: wait, rather than lose one
            self._waiting = frame
            self._loop.remove_reader(self._device)
            self._loop.add_writer(self._slirp, self._again)
            return False
        except OSError as error:  # it ended
            logger.debug("%s: its slirp4netns ended: %s", self._instance, error)
            self.close()
            return False
        return True

    def _again(self) -> None:
        self._loop.remove_writer(self._slirp)
        if self._send(self._waiting):
            self._go_on()

    def _arriving(self) -> None:
        for _ in range(AT_ONCE):
            try:
                frame = self._slirp.recv(LARGEST)
            except BlockingIOError:  # no more
                return
            except OSError:  # as good as its end
                frame = b""
            if not frame:
                self.close()
                return
            self._traffic.received += len(frame)
            self._deliver(frame)

    def _deliver(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):  # the instance has gone or is behind: a network may lose a frame
            os.write(self._device, frame)
