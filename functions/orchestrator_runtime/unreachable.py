"""Says of an error whether the manifest's `network` is its cause: what the kernel says of it names no cause at all."""

from __future__ import annotations

import errno
import socket

WITHOUT_NETWORK = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
MOST = 20  # errors of a chain that are looked at
HINTS = {
    "none": "agent.yaml says `network: none`, so it reaches nothing: set `network` to the hosts that it needs.",
    "hosts": "agent.yaml lets it reach only the hosts listed under `network`: add this one.",
}


def hint(error: BaseException | None, network: str) -> str:
    """What to do, if a connection that the network refuses is the error or what led to it; else empty."""
    for _ in range(MOST):
        if error is None:
            break
        if isinstance(error, socket.gaierror) or (isinstance(error, OSError) and error.errno in WITHOUT_NETWORK):
            return HINTS.get(network, "")
        error = error.__cause__ or error.__context__
    return ""
