"""The server of the tests' instances: makes the attempts that it is asked for. Copied into their environment.

One JSON line per connection, {"attempt", "arguments"}; answered with {"value"} or {"error", "errno", "detail"}.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

import attempts  # type: ignore[import-not-found]  # beside this file in the environment


def serve(start: Any, *, listen: socket.socket, control: socket.socket) -> None:
    listen.setblocking(True)
    _load(start.entrypoint, control)
    control.send(b'{"event": "ready", "load_ms": 0.1}')
    print(f"serving {start.agent}")
    while True:
        readable, _, _ = select.select([listen, control], [], [])
        if control in readable:
            data = control.recv(65536)
            if not data or (json.loads(data)["event"] == "drain" and start.entrypoint != "agent:stubborn"):
                return
        if listen in readable:
            connection, _ = listen.accept()
            with connection:
                _answer(connection)


def _load(entrypoint: str, control: socket.socket) -> None:
    """What an agent's module may do while it is imported, by its name."""
    if entrypoint == "agent:exits":
        print("leaving")
        sys.exit(3)
    if entrypoint == "agent:hangs":
        time.sleep(600)
    if entrypoint == "agent:fails":
        problem = {"code": "entrypoint_import", "title": "t", "status": 422, "detail": "it cannot be imported"}
        control.send(json.dumps({"event": "failed", "problem": problem}).encode())
        sys.exit(1)
    if entrypoint == "agent:babbles":
        for nonsense in (b"\xff", b"[]", b"{}", b'{"event": 7}', b'{"event": "egress"}', b"null"):
            control.send(nonsense)


def _answer(connection: socket.socket) -> None:
    asked = json.loads(connection.makefile("rb").readline())
    try:
        answer = {"value": getattr(attempts, asked["attempt"])(*asked["arguments"])}
    except Exception as error:  # noqa: BLE001 - whatever refused it is the answer
        answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "detail": str(error)}
    connection.sendall(json.dumps(answer).encode() + b"\n")
