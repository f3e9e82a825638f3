"""Accepts connections that begin with a TLS handshake.

The event loop's own server would do the handshake before anybody could ask who is calling, so a caller could have any
number of them going on. Here each counts as a connection of its address from the start.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from local.gateway.client import LINGER, ClientConnection
from local.gateway.gateway import Gateway

logger = logging.getLogger("gateway.tls_listener")

AT_ONCE = 64  # connections taken in one turn of the event loop
PAUSE = 0.5  # seconds without accepting, when the process has no descriptor left


class TlsListener:
    """Serves `listening` until `close`. `context()` is asked for each connection: a certificate may be renewed."""

    def __init__(self, gateway: Gateway, listening: socket.socket, *, context: Callable[[], ssl.SSLContext]) -> None:
        self._gateway = gateway
        self._listening = listening
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening, self._readable)

    def close(self) -> None:
        """Take no more connections."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # that was all, or it has gone again
                return
            except OSError as error:  # no descriptor or memory left: what ends meanwhile gives some back
                logger.warning("No connection can be accepted: %s", error)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE, self._again)
                return
            self._accepted(connection, str(address[0]))

    def _again(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._readable)

    def _accepted(self, connection: socket.socket, peer: str) -> None:
        limited_as = self._gateway.limited_as(peer)
        if self._gateway.connections.enter(limited_as):
            self._gateway.spawn(self._shake_hands(connection, lambda: self._gateway.connections.leave(limited_as)))
        else:
            self._gateway.turned_away()
            connection.close()

    async def _shake_hands(self, connection: socket.socket, leave: Callable[[], None]) -> None:
        connection.setblocking(False)
        client = ClientConnection(self._gateway, entered=True)
        try:
            await self._loop.connect_accepted_socket(
                lambda: client,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self._gateway.limits.head_timeout,
                ssl_shutdown_timeout=LINGER,
            )
        except OSError:  # no TLS, none that is spoken here, or gone: the other end was told by an alert
            self._gateway.failed_handshakes += 1
        finally:
            if not client.opened:
                leave()
