"""Frames that leave an instance's device: which may go on, and what the instance is told of those that may not. Pure.

Routes inside the instance could not decide this: a program that names the device it sends by (IP_PKTINFO,
SO_BINDTODEVICE) passes them by, and needs no privilege for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from local.egress.policy import Allowance, why_refused
from local.sandbox.device import ROUTER
from local.sandbox.etc import NAMESERVER

ARP, IPV4 = b"\x08\x06", b"\x08\x00"
ICMP, TCP, UDP = 1, 6, 17
DNS_PORT = 53
SYN, ACK = 0x02, 0x10
UNREACHABLE, BY_ADMINISTRATION = 3, 13  # RFC 1812, 5.2.7.1; programs see EHOSTUNREACH at once

_HEAD = 14  # bytes of Ethernet's
_SHORTEST = 20  # bytes of IPv4's
_NAMESERVER = IPv4Address(NAMESERVER)


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet to somewhere. `port` is None where there is none, as in what follows the first fragment."""

    destination: IPv4Address
    protocol: int
    port: int | None
    whole: bool
    opens: bool  # a connection


def read(frame: bytes) -> Packet | None:
    """The packet in a frame; None if it holds none, or one of a protocol that slirp4netns does not know."""
    if len(frame) < _HEAD + _SHORTEST or frame[12:14] != IPV4:
        return None
    length = (frame[14] & 0x0F) * 4
    protocol = frame[23]
    fragment = int.from_bytes(frame[20:22])
    start = _HEAD + length
    if frame[14] >> 4 != 4 or length < _SHORTEST or len(frame) < start + 8 or protocol not in (ICMP, TCP, UDP):
        return None
    first = fragment & 0x1FFF == 0
    has_port = first and protocol != ICMP
    return Packet(
        destination=IPv4Address(frame[30:34]),
        protocol=protocol,
        port=int.from_bytes(frame[start + 2 : start + 4]) if has_port else None,
        whole=first and not fragment & 0x2000,
        opens=has_port and protocol == TCP and len(frame) > start + 13 and frame[start + 13] & (SYN | ACK) == SYN,
    )


def why_not(packet: Packet, *, allowed: frozenset[Allowance]) -> str | None:
    """What is wrong with its destination, or None if it may leave.

    slirp4netns turns whatever goes to its name server, on any port, to the host's: so only questions may.
    """
    if packet.destination == _NAMESERVER:
        question = packet.whole and packet.port == DNS_PORT
        return None if question else "only names may be asked for there"
    reason = _why_refused(packet.destination)
    if reason is None or packet.port is None:
        return reason
    return None if Allowance(str(packet.destination), packet.port) in allowed else reason


@lru_cache(4096)
def _why_refused(address: IPv4Address) -> str | None:
    return why_refused(address)


def refusal(frame: bytes) -> bytes:
    """The frame that tells the sender of one with a packet that it was refused: an ICMP error from the router."""
    packet = frame[_HEAD:]
    cause = packet[: (packet[0] & 0x0F) * 4 + 8]
    message = struct.pack("!BBHI", UNREACHABLE, BY_ADMINISTRATION, 0, 0) + cause
    message = message[:2] + _checksum(message) + message[4:]
    ends = ROUTER.packed + packet[12:16]
    head = struct.pack("!BBHHHBBH8s", 0x45, 0, _SHORTEST + len(message), 0, 0, 64, ICMP, 0, ends)
    head = head[:10] + _checksum(head) + head[12:]
    return frame[6:12] + frame[0:6] + IPV4 + head + message


def _checksum(data: bytes) -> bytes:
    """The Internet's (RFC 1071)."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
