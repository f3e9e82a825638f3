"""One connection of an instance, whose other end may be anybody's code: what it may take of this server is bounded.

Nothing is read further while the instance has too much unanswered, holds too many bytes (`limits`), or does not read
what it was answered. None of that breaks a connection, it only waits; what breaks one is not to say hello, not to end
a frame that it began, and not to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from control_api.journal.ledger import dumps
from control_api.journal.limits import HEADER_WEIGHT, Account, Limits
from control_api.journal.operations import Stored
from orchestrator_runtime.contract.errors import BadInput, Problem, TimedOut, TooLarge
from orchestrator_runtime.contract.wire import (
    LENGTHS,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Handler,
    Header,
    Message,
    Peer,
    cut,
)

STORABLE_DEPTH = 200  # of values in values
LINGER = 1.0  # seconds that a connection that was refused gets to read why


class InstanceConnection(Peer):
    """`account` is there after hello. `on_refused(problem)` hears why this end closed the connection."""

    def __init__(
        self,
        handlers: dict[str, Handler],
        *,
        limits: Limits,
        fetch: Callable[[Stored], Awaitable[Message]],
        on_connected: Callable[[InstanceConnection], None],
        on_lost: Callable[[InstanceConnection], None],
        on_refused: Callable[[Problem], None],
    ) -> None:
        super().__init__(handlers, on_connected=self._began, on_lost=self._ended)
        self.account: Account | None = None
        self._limits = limits
        self._fetch = fetch
        self._greeted_by = on_connected
        self._left_by = on_lost
        self._on_refused = on_refused
        self._unanswered = 0
        self._granted: int | None = None  # what the frame at the front of the buffer costs, once it may come
        self._current: int | None = None  # what the frame costs that is being handled, unless the handler gives it back
        self._is_paused = False
        self._is_refused = False
        self._going_on = False
        self._unread = 0  # bytes that `account` counts, while this end must not write
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._hello_timer: asyncio.TimerHandle | None = None
        self._frame_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def descriptor(self) -> int:
        """Of its socket, while it is open."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("socket").fileno())

    def greeted(self, account: Account) -> None:
        """The instance has proved who it is; `account` counts it. A second time changes nothing."""
        if self.account is None:
            self.account = account
            account.connections += 1
            _cancel(self._hello_timer)

    def take_over(self) -> Callable[[], None]:
        """A handler keeps what it was given, maybe beyond the answer; it calls what this returns when that is over."""
        cost, self._current = self._current, None
        return partial(self._release, cost or 0)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a reply of any size may be made for this instance: one at a time, and when it reads them."""
        assert self.account is not None
        async with self.account.turn:
            await self._may_write.wait()
            await self.account.pool.room.wait()
            yield

    def refuse(self, problem: Problem) -> None:
        """Say why in a last frame, and close."""
        if self._is_refused or self._transport is None:
            return
        self._is_refused = True
        self._received.clear()
        self.notify("refused", {"error": problem.document()})
        self._on_refused(problem)
        self.close()
        self._loop.call_later(LINGER, self._abort)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            self._received += data
            self._take_frames()

    def pause_writing(self) -> None:
        self._may_write.clear()
        if self._transport is not None and self.account is not None:
            self._unread = self._transport.get_write_buffer_size()
            self.account.add(self._unread)
        unread = TimedOut("What the journal answered was not read", code="replies_unread")
        self._unread_timer = self._loop.call_later(self._limits.unread_timeout, self._drop, unread)

    def resume_writing(self) -> None:
        self._read_at_last()
        self._go_on_soon()

    def _began(self, _: Peer) -> None:
        assert self._transport is not None
        self._transport.set_write_buffer_limits(high=self._limits.unread)
        silent = TimedOut("The connection did not say hello in time", code="journal_hello_missing")
        self._hello_timer = self._loop.call_later(self._limits.hello_timeout, self.refuse, silent)
        self._greeted_by(self)

    def _ended(self, _: Peer) -> None:
        for timer in (self._hello_timer, self._frame_timer):
            _cancel(timer)
        self._read_at_last()
        self._received.clear()
        if self.account is not None:
            self.account.connections -= 1
            self.account.pool.forget(self._go_on_soon)
            if self._granted is not None:
                self.account.add(-self._granted)
        self._left_by(self)

    def _read_at_last(self) -> None:
        _cancel(self._unread_timer)
        self._may_write.set()
        unread, self._unread = self._unread, 0
        if unread and self.account is not None:
            self.account.add(-unread)

    # frames

    def _take_frames(self) -> None:
        """Handle what has come, as far as that is allowed now, and read on or stop reading."""
        buffer, start = self._received, 0
        is_held_up = False
        try:
            while len(buffer) - start >= LENGTHS.size and not self._is_refused:
                header_length, body_length = LENGTHS.unpack_from(buffer, start)
                is_held_up = self._unanswered >= self._limits.unanswered or not self._may_write.is_set()
                if is_held_up or (self._granted is None and not self._grant(header_length, body_length)):
                    is_held_up = True
                    break
                end = start + LENGTHS.size + header_length + body_length
                if len(buffer) < end:
                    break
                header, body = cut(buffer, start, header_length, body_length)
                is_odd = _is_odd(buffer, start, end - body_length)
                start = end
                self._handle(header, body, is_odd=is_odd)
        except BadInput as problem:  # a peer that does not speak the protocol has nothing more to say
            self.refuse(problem)
        if self._is_refused:
            return
        del buffer[:start]
        if self.account is None and len(buffer) > self._limits.early_frame:
            self.refuse(TooLarge("Too much was sent before hello", code="frame_too_large"))
            return
        if self._granted is not None and self._frame_timer is None:
            self._watch_frame()
        if is_held_up != self._is_paused:
            self._read_or_not(is_held_up)

    def _grant(self, header_length: int, body_length: int) -> bool:
        """Whether the next frame may come now. Raises `TooLarge` (`frame_too_large`)."""
        if self.account is None:
            if header_length + body_length > self._limits.early_frame:
                raise TooLarge("A frame before hello is longer than the protocol allows", code="frame_too_large")
            self._granted = 0
            return True
        if header_length > MAX_HEADER_BYTES or body_length > MAX_BODY_BYTES:
            raise TooLarge("A frame is longer than the protocol allows", code="frame_too_large")
        cost = HEADER_WEIGHT * header_length + body_length
        if not self.account.take(cost, self._go_on_soon):
            return False
        self._granted = cost
        return True

    def _handle(self, header: Header, body: bytes, *, is_odd: bool) -> None:
        self._current, self._granted = self._granted, None
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        self._unanswered += 1
        try:
            if is_odd:
                _check_storable(header)
            answer = self._dispatch(header, body)
        except BadInput as problem:
            self._refuse(header["id"] if isinstance(header.get("id"), int) else None, problem)
            answer = None
        except Exception as error:  # noqa: BLE001 - a border: a defect of ours costs this connection, and nobody else anything
            self._loop.call_exception_handler({"message": "A handler failed", "exception": error})
            self.refuse(Problem("The operation failed unexpectedly", code="internal"))
            answer = None
        cost, self._current = self._current, None
        if cost is None:
            return  # whoever took it over gives it back
        if answer is None:
            self._release(cost)
        else:
            answer.add_done_callback(lambda _: self._release(cost))

    def _reply(self, identity: int | None, reply: Message) -> None:
        if isinstance(reply, Stored):
            self._unanswered += 1
            fetching = self._answer(identity, self._fetch_in_turn(reply))
            fetching.add_done_callback(lambda _: self._release(0))
        else:
            super()._reply(identity, reply)

    async def _fetch_in_turn(self, stored: Stored) -> Message:
        async with self.turn():
            return await self._fetch(stored)

    def _release(self, cost: int) -> None:
        self._unanswered -= 1
        if cost and self.account is not None:
            self.account.add(-cost)
        if self._is_paused:
            self._go_on_soon()

    def _go_on_soon(self) -> None:
        """Look again at what has come, once in a turn of the loop."""
        if not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        if self._transport is not None and not self._is_refused:
            self._take_frames()

    def _watch_frame(self) -> None:
        """A frame that was granted and is not whole has its time."""
        if self.account is not None:
            late = TimedOut("A frame was begun and not ended in time", code="frame_incomplete")
            self._frame_timer = self._loop.call_later(self._limits.frame_timeout, self.refuse, late)

    def _read_or_not(self, is_held_up: bool) -> None:
        if self._transport is None:
            return
        self._is_paused = is_held_up
        if is_held_up:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _drop(self, problem: Problem) -> None:
        """Break a connection at whose other end nobody reads."""
        self._on_refused(problem)
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _is_odd(buffer: bytearray, start: int, end: int) -> bool:
    """Whether a header may hold what JSON can say and no database takes. Of the runtime's, hardly one does."""
    nested = buffer.count(b"{", start, end) + buffer.count(b"[", start, end)
    return nested > STORABLE_DEPTH or buffer.find(b"\\u", start, end) >= 0


def _check_storable(header: Header) -> None:
    """Raises `BadInput` (`request_invalid`), before a batch has it and would have to be done again without it."""
    try:
        dumps(header)
    except ValueError as error:
        raise BadInput(
            "A member is nested too deeply, or has half a character in it", code="request_invalid"
        ) from error


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
