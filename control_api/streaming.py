"""Server-sent events: how a live stream of this API looks on the wire, and how it ends.

A stream sends a comment when it has been silent for a while, so that proxies keep it and a vanished reader is noticed.
When the reader goes, or may read no more, the iterator behind it is closed; what is being watched is never touched.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse

from orchestrator_runtime.contract.errors import BadInput

CONTENT_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. A reader that reconnects sends the last `id` it saw as Last-Event-ID."""

    event: str
    data: Any
    id: str | None = None

    def encode(self) -> bytes:
        identity = f"id: {self.id}\n" if self.id is not None else ""
        return f"{identity}event: {self.event}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n".encode()


def always() -> bool:
    return True


def event_stream(
    events: AsyncGenerator[ServerEvent], *, keep_alive: float, allowed: Callable[[], bool] = always
) -> StreamingResponse:
    """The response that sends `events` while that is `allowed`; silent for `keep_alive` seconds, it sends a comment."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    wire = kept_alive(_encoded(events), silence=keep_alive, filler=KEEP_ALIVE, allowed=allowed)
    return StreamingResponse(wire, media_type=CONTENT_TYPE, headers=headers)


async def kept_alive(
    chunks: AsyncGenerator[bytes], *, silence: float, filler: bytes, allowed: Callable[[], bool] = always
) -> AsyncGenerator[bytes]:
    """`chunks`, with a `filler` first and whenever they were silent for `silence` seconds; closes them at the end.

    Ends before anything that is not `allowed` any more.
    """
    yield filler  # headers leave at once, so that a reader knows it is connected
    following = asyncio.ensure_future(anext(chunks))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=silence)
            if not allowed():
                return
            if not done:
                yield filler
                continue
            try:
                chunk = following.result()
            except StopAsyncIteration:
                return
            yield chunk
            following = asyncio.ensure_future(anext(chunks))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await chunks.aclose()


async def _encoded(events: AsyncGenerator[ServerEvent]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            yield event.encode()


def last_number(last_event_id: str | None) -> int:
    """The Last-Event-ID of a stream that numbers its events; 0 without one. Raises `BadInput` if it is no number."""
    if not last_event_id:
        return 0
    if not last_event_id.isascii() or not last_event_id.isdigit():
        raise BadInput(
            "Last-Event-ID is not one that this stream has sent",
            code="last_event_id_invalid",
            hint="Send the id of the last event you received, or leave the header out.",
        )
    return int(last_event_id)
