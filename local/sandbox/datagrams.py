"""Datagrams with descriptors, for asyncio: sandboxes and zygotes report with them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

LARGEST = 64 * 1024
MOST_DESCRIPTORS = 4


async def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """The next datagram of a non-blocking socket; empty when the other end is gone. The caller owns the descriptors."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(end, LARGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:  # nothing there yet
            await _wait(end, reading=True)
        except ConnectionError:  # it died with our words unread
            return b"", []
        else:
            return data, list(descriptors)


async def send(end: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """Raises `ConnectionError` if nobody will read it."""
    while True:
        try:
            socket.send_fds(end, [data], descriptors)
        except BlockingIOError:  # the reader is behind
            await _wait(end, reading=False)
        else:
            return


async def readable(descriptor: int) -> None:
    """Return when there is something to read, or, of a process's descriptor, when it has ended."""
    await _wait(descriptor, reading=True)


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


async def _wait(what: socket.socket | int, *, reading: bool) -> None:
    loop = asyncio.get_running_loop()
    possible = loop.create_future()

    def wake() -> None:
        if not possible.done():
            possible.set_result(None)

    (loop.add_reader if reading else loop.add_writer)(what, wake)
    try:
        await possible
    finally:
        (loop.remove_reader if reading else loop.remove_writer)(what)
