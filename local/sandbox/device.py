"""An Ethernet device in an instance's network, whose other end, a descriptor, is ours: every frame is read by us.

Called by `zygote` while the instance isolates itself, so that it costs a start next to nothing. The instance has no
capability left that could change the device, its address or the one route.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

from orchestrator_runtime.contract.sandbox import kernel, namespaces

PATH = "/dev/net/tun"
NAME = "tap0"
ADDRESS = IPv4Address("10.0.2.100")  # of the instance; these two are what slirp4netns expects
ROUTER = IPv4Address("10.0.2.2")
MTU = 65520  # bytes; as large as slirp4netns takes them, since each frame costs us the same

_TUNSETIFF, _TUNSETPERSIST, _TAP, _NO_PACKET_INFORMATION = 0x400454CA, 0x400454CB, 0x0002, 0x1000
_UNIVERSE, _IFF_UP = 0, 1

# The words of rtnetlink, in which links, addresses and routes are set
_NEWLINK, _NEWADDR, _NEWROUTE, _ERROR = 16, 20, 24, 2
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_LINK_MTU, _LINK_FAMILIES, _INET6_ADDRESS_MODE, _MODE_NONE = 4, 26, 8, 1
_ADDRESS_LOCAL, _ROUTE_DEVICE, _ROUTE_VIA = 2, 4, 5
_MAIN_TABLE, _BY_ADMINISTRATOR, _UNICAST, _ON_LINK = 254, 4, 1, 4


class Devices:
    """Makes devices, in a thread that goes from network to network: a thread has a network of its own, and as an
    ordinary user nobody who has left the host's comes back to it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="devices", initializer=_leave_network)

    def make(self, pidfd: int) -> asyncio.Future[int]:
        """Begin at once: the descriptor of a new device in the network of a process, which the caller closes.

        `OSError` if the process has gone, or the kernel has no more.
        """
        return asyncio.wrap_future(self._thread.submit(_make_in, pidfd))


def make() -> int:
    """A device in our own network. Needs its capabilities. Raises `OSError`.

    It persists: the network's end removes it, while closing the last descriptor of one that does not takes 30 ms.
    """
    device = os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", NAME.encode(), _TAP | _NO_PACKET_INFORMATION))
        fcntl.ioctl(device, _TUNSETPERSIST, 1)
        _configure(socket.if_nametoindex(NAME))
    except OSError:
        os.close(device)
        raise
    return device


def _make_in(pidfd: int) -> int:
    with open("/proc/thread-self/ns/net") as home:  # noqa: PTH123 - a descriptor of it
        kernel.setns(pidfd, namespaces.NEWNET)
        try:
            return make()
        finally:
            kernel.setns(home.fileno(), namespaces.NEWNET)  # or we would keep the instance's network alive


def _leave_network() -> None:
    namespaces.unshare(namespaces.NEWNET)


def _configure(index: int) -> None:
    """Up, with its address, and everything reached through it. No IPv6, whose own packets would wake us."""
    size = _attribute(_LINK_MTU, struct.pack("I", MTU))
    silent = _attribute(_INET6_ADDRESS_MODE, bytes([_MODE_NONE]))
    families = _attribute(_LINK_FAMILIES, _attribute(socket.AF_INET6, silent))
    device = _attribute(_ROUTE_DEVICE, struct.pack("i", index))
    new = _CREATE | _EXCLUSIVE
    _ask(
        # the device's flags are set before its families are looked at, so these are two messages
        _message(_NEWLINK, 0, struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + size + families),
        _message(_NEWLINK, 0, struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)),
        _message(
            _NEWADDR,
            new,
            struct.pack("BBBBi", socket.AF_INET, 32, 0, _UNIVERSE, index) + _attribute(_ADDRESS_LOCAL, ADDRESS.packed),
        ),
        _message(
            _NEWROUTE,
            new,
            struct.pack(
                "BBBBBBBBI", socket.AF_INET, 0, 0, 0, _MAIN_TABLE, _BY_ADMINISTRATOR, _UNIVERSE, _UNICAST, _ON_LINK
            )
            + _attribute(_ROUTE_VIA, ROUTER.packed)
            + device,
        ),
    )


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("IHHII", 16 + len(body), kind, _REQUEST | _ACKNOWLEDGE | flags, 0, 0) + body


def _ask(*messages: bytes) -> None:
    """Send all of them at once. Raises `OSError` for the first that the kernel refuses."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as rtnetlink:
        rtnetlink.send(b"".join(messages))
        for _ in messages:
            kind, error = struct.unpack_from("4xH10xi", rtnetlink.recv(4096))
            if kind == _ERROR and error:
                raise OSError(-error, f"{os.strerror(-error)} (rtnetlink)")
