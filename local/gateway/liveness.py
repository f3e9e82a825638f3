"""Liveness: whether an instance that has nothing to do still answers, as Kubernetes' probes ask it.

Only idle instances are asked. Code that blocks while it works on a run is no fault: its run has a deadline, and when
that is over the server has the instance replaced.
"""

from __future__ import annotations

import asyncio

from orchestrator_runtime.contract import headers

FAILURE_THRESHOLD = 3  # probes in a row; Kubernetes' default, as is the period of 10 seconds
PROBE_EVERY = 10.0  # seconds


async def answers(address: str, call_token_line: bytes, *, within: float) -> bool:
    """Ask the instance at this Unix socket, which has `within` seconds to answer."""
    request = b"GET / HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n%b%b: 1\r\n\r\n" % (
        call_token_line,
        headers.PROBE.encode(),
    )
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_unix_connection(address)
            try:
                writer.write(request)
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):  # it has gone, or its event loop stands still
        return False
    return line.startswith(b"HTTP/1.1 204")
