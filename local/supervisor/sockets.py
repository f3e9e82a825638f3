"""Listening sockets, opened before any process that serves them, so that a restarted one refuses nobody."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

from orchestrator_runtime.contract.errors import Conflict

BACKLOG = 4096
NEVER = frozenset({2024})  # belongs to somebody else on machines of ours
PORTS_TRIED = 50
LAST_PORT = 65535


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on `port` of the address `host`, or on the next free one after it. Port 0 takes any.

    Raises `Conflict` (`port_in_use`) if none of the next `PORTS_TRIED` ports is free.
    """
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    last = min(port + PORTS_TRIED - 1, LAST_PORT)
    for candidate in range(port, last + 1):
        if candidate in NEVER:
            continue
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, candidate))
            listening.listen(BACKLOG)
        except OSError:  # taken, or not ours to take: the next one may be free
            listening.close()
            continue
        return listening
    raise Conflict(
        f"No free port between {port} and {last} on {host}",
        code="port_in_use",
        hint="Free one of them, or choose another with `orchestrator up --port PORT`.",
    )


def listen_unix(path: Path, *, mode: int = 0o600) -> socket.socket:
    """Listen on a Unix socket; what an earlier process left at `path` is removed."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(mode)
    listening.listen(BACKLOG)
    return listening
