"""The server of the tests' instances: makes the attempts that it is asked for. Copied into their environment.

One JSON line per connection, {"attempt", "arguments"}; answered with {"value"} or {"error", "errno", "detail"}.
"""

from __future__ import annotations

import json
import select
import socket
from typing import Any

import attempts  # type: ignore[import-not-found]  # beside this file in the environment


def serve(start: Any, *, listen: socket.socket, control: socket.socket) -> None:
    listen.setblocking(True)
    control.send(b'{"event": "ready", "load_ms": 0.1}')
    print(f"serving {start.agent}")
    while True:
        readable, _, _ = select.select([listen, control], [], [])
        if control in readable:
            data = control.recv(65536)
            if not data or json.loads(data)["event"] == "drain":
                return
        if listen in readable:
            connection, _ = listen.accept()
            with connection:
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    asked = json.loads(connection.makefile("rb").readline())
    try:
        answer = {"value": getattr(attempts, asked["attempt"])(*asked["arguments"])}
    except Exception as error:  # noqa: BLE001 - whatever refused it is the answer
        answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "detail": str(error)}
    connection.sendall(json.dumps(answer).encode() + b"\n")
