"""The one framing of every internal channel: journal, server and gateway, supervisor.

A frame is a 4-byte header length, a 4-byte body length (big-endian), a JSON header and a raw body. A header with
`id` and `op` is a request, one with `re` answers it (`error` holds a problem document), one with `op` alone is a
notification. Several blobs travel in one body; the header's `parts` lists their lengths.

Both ends may call the other. Writes of one turn of the event loop leave in one system call, which is what makes
group commit at the other end possible.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, cast

from orchestrator_runtime.contract.errors import BadInput, Problem, TooLarge, Unavailable, from_document

LENGTHS = struct.Struct("!II")
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024

Header: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A request, notification or reply: JSON fields and a body of bytes."""

    fields: Header = field(default_factory=dict)
    body: bytes = b""

    def parts(self) -> list[bytes]:
        """The blobs of the body, as the header's `parts` cuts it."""
        blobs, start = [], 0
        for length in self.fields.get("parts", ()):
            blobs.append(self.body[start : start + length])
            start += length
        return blobs


def with_parts(fields: Header, blobs: Sequence[bytes]) -> Message:
    """A message whose body holds several blobs."""
    return Message({**fields, "parts": [len(blob) for blob in blobs]}, b"".join(blobs))


Handler: TypeAlias = Callable[["Peer", Message], Message | Awaitable[Message] | None]
"""Answers one request or notification. May return a reply, a future or coroutine of one, or raise `Problem`.

A future or coroutine is cancelled when the connection is lost."""


_from_json = json.JSONDecoder().decode
_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # json.dumps makes an encoder per call


def encode(header: Header, body: bytes = b"") -> bytes:
    """One frame as bytes. Raises `TooLarge` (`frame_too_large`) for one that the other end would not take."""
    text = _to_json(header).encode()
    for part, size, limit in (("header", len(text), MAX_HEADER_BYTES), ("body", len(body), MAX_BODY_BYTES)):
        if size > limit:
            raise TooLarge(f"The {part} of a message has {size} bytes; {limit} are allowed", code="frame_too_large")
    return LENGTHS.pack(len(text), len(body)) + text + body


def decode(buffer: bytearray) -> Iterable[tuple[Header, bytes]]:
    """Take every whole frame off the front of `buffer`.

    Raises `BadInput` when a length is beyond the limits or a header is no JSON object.
    """
    start = 0
    while len(buffer) - start >= LENGTHS.size:
        header_length, body_length = LENGTHS.unpack_from(buffer, start)
        if header_length > MAX_HEADER_BYTES or body_length > MAX_BODY_BYTES:
            raise BadInput("A frame is longer than the protocol allows", code="frame_too_large")
        body_start = start + LENGTHS.size + header_length
        if len(buffer) < body_start + body_length:
            break
        yield cut(buffer, start, header_length, body_length)
        start = body_start + body_length
    del buffer[:start]


def cut(buffer: bytearray, start: int, header_length: int, body_length: int) -> tuple[Header, bytes]:
    """The whole frame that begins at `start`. Raises `BadInput` (`frame_not_json`) if its header is no JSON object."""
    body_start = start + LENGTHS.size + header_length
    try:
        header = _from_json(str(buffer[start + LENGTHS.size : body_start], "utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput("A frame's header is not JSON", code="frame_not_json") from error
    if not isinstance(header, dict):
        raise BadInput("A frame's header is not an object", code="frame_not_json")
    return header, bytes(buffer[body_start : body_start + body_length])


class Peer(asyncio.Protocol):
    """One end of a channel.

    `handlers` maps operation names to handlers. `on_lost` is called once, when the connection is gone; every call
    still open then fails with `Unavailable`.
    """

    def __init__(
        self,
        handlers: dict[str, Handler],
        *,
        on_connected: Callable[[Peer], None] | None = None,
        on_lost: Callable[[Peer], None] | None = None,
    ) -> None:
        self.state: dict[str, Any] = {}  # what this end knows about the other: identity, permissions
        self._handlers = handlers
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._outgoing: list[bytes] = []
        self._calls: dict[int, asyncio.Future[Message]] = {}
        self._answers: set[asyncio.Future[Message]] = set()  # of this end, that are still to come
        self._last_id = 0
        self.lost: asyncio.Future[None] = self._loop.create_future()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        if self._on_connected:
            self._on_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(Unavailable("The connection was lost", code="connection_lost"))
                call.exception()  # a caller that has gone away must not make the loop complain
        for answer in self._answers:
            answer.cancel()
        if not self.lost.done():
            self.lost.set_result(None)
        if self._on_lost:
            self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            for header, body in decode(self._received):
                self._dispatch(header, body)
        except BadInput:
            self.close()  # a peer that does not speak the protocol has nothing more to say

    # calls

    async def call(self, operation: str, fields: Header | None = None, body: bytes = b"") -> Message:
        """Send a request and wait for its reply; a problem that the other end answers is raised here."""
        return await self.start_call(operation, fields, body)

    def start_call(self, operation: str, fields: Header | None = None, body: bytes = b"") -> asyncio.Future[Message]:
        """Like `call`, without a coroutine: the request leaves with this turn of the loop.

        Raises `TooLarge` (`frame_too_large`) at once.
        """
        future: asyncio.Future[Message] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(Unavailable("The connection is closed", code="connection_lost"))
            return future
        self._last_id += 1
        self._send({**(fields or {}), "id": self._last_id, "op": operation}, body)
        self._calls[self._last_id] = future
        return future

    def notify(self, operation: str, fields: Header | None = None, body: bytes = b"") -> None:
        """Send a notification; nobody answers. On a lost connection it is dropped."""
        self._send({**(fields or {}), "op": operation}, body)

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    # frames

    def _send(self, header: Header, body: bytes = b"") -> None:
        if self._transport is None:
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(encode(header, body))

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if outgoing and self._transport is not None:
            self._transport.write(b"".join(outgoing))

    def _dispatch(self, header: Header, body: bytes) -> asyncio.Future[Message] | None:
        """Hand a frame on. What is returned is answered when it is done."""
        answered = header.pop("re", None)
        if answered is not None:
            if isinstance(answered, int):
                self._settle(answered, header, body)
            return None
        identity = header.pop("id", None)
        if not isinstance(identity, int):
            identity = None
        operation = header.pop("op", "")
        handler = self._handlers.get(operation) if isinstance(operation, str) else None
        try:
            if handler is None:
                raise BadInput(f"There is no operation {operation!r}", code="unknown_operation")
            reply = handler(self, Message(header, body))
        except Problem as problem:
            self._refuse(identity, problem)
            return None
        if reply is None or isinstance(reply, Message):
            self._reply(identity, reply or Message())
            return None
        return self._answer(identity, reply)

    def _answer(self, identity: int | None, reply: Awaitable[Message]) -> asyncio.Future[Message]:
        answer = reply if isinstance(reply, asyncio.Future) else asyncio.ensure_future(reply)
        self._answers.add(answer)
        answer.add_done_callback(partial(self._finish, identity))
        return answer

    def _finish(self, identity: int | None, done: asyncio.Future[Message]) -> None:
        self._answers.discard(done)
        if done.cancelled():
            self._refuse(identity, Unavailable("The operation was cancelled", code="cancelled"))
            return
        error = done.exception()
        if error is None:
            self._reply(identity, done.result() or Message())
        elif isinstance(error, Problem):
            self._refuse(identity, error)
        else:
            self._refuse(identity, Problem("The operation failed unexpectedly", code="internal"))
            self._loop.call_exception_handler({"message": "A handler failed", "exception": error})

    def _reply(self, identity: int | None, reply: Message) -> None:
        if identity is None:
            return
        try:
            self._send({**reply.fields, "re": identity}, reply.body)
        except TooLarge as problem:  # or the other end would wait for ever
            self._refuse(identity, problem)

    def _refuse(self, identity: int | None, problem: Problem) -> None:
        if identity is not None:
            self._send({"re": identity, "error": problem.document()})

    def _settle(self, answered: int, header: Header, body: bytes) -> None:
        future = self._calls.pop(answered, None)
        if future is None or future.done():
            return
        error = header.get("error")
        if error is None:
            future.set_result(Message(header, body))
        else:
            future.set_exception(from_document(error))


async def connect(path: str, handlers: dict[str, Handler], *, on_lost: Callable[[Peer], None] | None = None) -> Peer:
    """Connect to a Unix socket. Raises `OSError` if nobody listens."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_unix_connection(lambda: Peer(handlers, on_lost=on_lost), path)
    return peer
