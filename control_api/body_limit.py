"""Keeps a body that is too large out of memory. The one operation that takes uploads counts for itself."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 1024 * 1024  # bytes of JSON


class BodyLimit:
    """`free`: paths without a limit. A body counts while it is read, so it does not matter what its headers say."""

    def __init__(self, app: ASGIApp, *, free: frozenset[str]) -> None:
        self._app = app
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._free:
            await self._app(scope, receive, send)
            return
        read = 0

        async def receive_counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LARGEST:
                raise HTTPException(413)  # the one kind that FastAPI lets through while it reads a body
            return message

        await self._app(scope, receive_counted, send)
