"""A private network: a loopback and, on it, one way out, a listening socket that somebody outside accepts on."""

from __future__ import annotations

import fcntl
import socket
import struct

from orchestrator_runtime.contract.instance import EGRESS_PORT

LOOPBACK = "127.0.0.1"
BACKLOG = 1024

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def bring_loopback_up() -> None:
    """A new network namespace has a loopback that is down. Needs its capabilities."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def listen_for_egress() -> socket.socket:
    """The socket that programs in this network take for their proxy; whoever gets it decides what leaves."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.bind((LOOPBACK, EGRESS_PORT))
    listening.listen(BACKLOG)
    return listening


def proxy_environment() -> dict[str, str]:
    """What makes well-behaved programs use it. The scheme is http for ALL_PROXY too: not every client speaks SOCKS.

    Loopback addresses are no exception: an operator may allow a model server at one of the machine's own.
    """
    address = f"http://{LOOPBACK}:{EGRESS_PORT}"
    values = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "ALL_PROXY": address}
    return {**values, **{name.lower(): value for name, value in values.items()}}
