"""`python -m tests.fakes.internet PROGRAM ARGUMENT… HOME`: start a program where the world is one process.

In a network namespace of its own there are a public address, addresses of every kind that agents may not reach, servers
on all of them, and a name server that /etc/resolv.conf (a file beside HOME) names. So what must be refused would be
there to be reached. Also /dev/net/tun is open to everybody, as Debian has it; some test machines do not.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path

from local.sandbox import device
from orchestrator_runtime.contract.sandbox import kernel, mounts, namespaces, network

PORT = 7000
PUBLIC = "203.0.113.10"
PRIVATE = ("10.9.9.9", "172.16.9.9", "192.168.9.9", "100.64.9.9", "169.254.169.254", "192.0.0.192")
ALLOWED = "10.8.8.8"  # for the operator to allow
NAMES = {"public.test": PUBLIC, "inside.test": PRIVATE[0], "metadata.test": "169.254.169.254", "here.test": "127.0.0.1"}
GREETING = b"hello from outside"
QUESTION = "What did you hear?"
_LOOPBACK = 1  # the index that it has in every namespace


def main() -> None:
    _enter(Path(sys.argv[-1]).parent / "resolv.conf")
    program = os.pidfd_open(os.getpid())
    reading, writing = os.pipe()
    if os.fork() == 0:
        _serve(writing, program)
    os.read(reading, 1)
    os.execv(sys.argv[1], sys.argv[1:])


def _enter(resolver: Path) -> None:
    flags = namespaces.NEWNET | namespaces.NEWNS
    if os.geteuid() == 0:
        namespaces.unshare(flags)
    else:
        namespaces.enter_user_namespace(flags)
    mounts.keep_private()
    network.bring_loopback_up()
    for address in (PUBLIC, *PRIVATE, ALLOWED):
        local = device._attribute(device._ADDRESS_LOCAL, IPv4Address(address).packed)
        body = struct.pack("BBBBi", socket.AF_INET, 32, 0, 0, _LOOPBACK) + local
        device._ask(device._message(device._NEWADDR, device._CREATE | device._EXCLUSIVE, body))
    resolver.write_text("nameserver 127.0.0.1\n")
    mounts.attach(mounts.copy_tree(resolver), "/etc/resolv.conf")
    if os.geteuid() == 0 and Path("/dev/net").is_dir():
        with contextlib.suppress(PermissionError):  # a container without devices: what needs one is missing
            kernel.mount("tmpfs", "/dev/net", "tmpfs", mounts.NO_SETUID, "mode=755")
            os.mknod(device.PATH, stat.S_IFCHR, os.makedev(10, 200))
            Path(device.PATH).chmod(0o666)


def _serve(writing: int, program: int) -> None:
    """Until the program ends. Greet every connection and every datagram, say what was heard, and what names mean."""
    heard: list[bytes] = []
    stream = socket.create_server(("0.0.0.0", PORT))
    datagrams, names = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    datagrams.bind(("0.0.0.0", PORT))
    names.bind(("0.0.0.0", 53))
    os.write(writing, b".")
    with selectors.DefaultSelector() as selector:
        for server in (stream, datagrams, names, program):
            selector.register(server, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == program:
                    os._exit(0)
                elif key.fileobj is stream:
                    with stream.accept()[0] as connection:
                        connection.sendall(GREETING)
                elif key.fileobj is datagrams:
                    said, speaker = datagrams.recvfrom(65536)
                    heard.append(said)
                    datagrams.sendto(b" ".join(heard) if said == QUESTION.encode() else GREETING, speaker)
                else:
                    question, asker = names.recvfrom(65536)
                    names.sendto(answer(question), asker)


def answer(question: bytes) -> bytes:
    """To a question about one name (RFC 1035): its address, nothing for other kinds, or that it is unknown."""
    labels, position = [], 12
    while length := question[position]:
        labels.append(question[position + 1 : position + 1 + length].decode())
        position += 1 + length
    asked = question[12 : position + 5]
    address = NAMES.get(".".join(labels).lower())
    kind = int.from_bytes(asked[-4:-2])
    found = address is not None and kind == 1
    head = question[:2] + struct.pack("!HHHHH", 0x8180 | (0 if address else 3), 1, int(found), 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + IPv4Address(address).packed if found else b""
    return head + asked + record


if __name__ == "__main__":
    main()
