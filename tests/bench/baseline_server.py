"""The baseline of a cold start: an agent served by a fresh process, as simply as its framework allows.

    python baseline_server.py FRAMEWORK DESCRIPTOR      in the agent's folder, with a listening socket

Runs in the framework's own environment and therefore imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CALL: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "plain": lambda module: module.handle,
    "langgraph": lambda module: module.graph.invoke,
    "agno": lambda module: lambda value: module.agent.run(value["message"]).content,
    "crewai": lambda module: lambda value: module.crew.kickoff(inputs=value).raw,
}


def main() -> None:
    framework, descriptor = sys.argv[1:]
    sys.path.insert(0, ".")
    call = CALL[framework](importlib.import_module("agent"))

    async def application(_: dict[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        answer = json.dumps(await asyncio.to_thread(call, json.loads(body))).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    config = uvicorn.Config(application, lifespan="off", log_level="error", loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
