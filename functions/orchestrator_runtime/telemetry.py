"""Spans of runs and their steps, sent to the server over the journal's connection; it sends them to a collector.

So they need no way out of the sandbox, and an agent gets none to the collector. Without OpenTelemetry's SDK: an agent's
environment may have none or any version of it, and importing it takes longer than a cold start may. Trace context is
W3C's. Where the installation has no collector there is nothing of this.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import time_ns
from typing import Any

from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.contract.spans import AT_ONCE, INTERNAL, SERVER, Span, dump
from orchestrator_runtime.contract.states import StepKind

KEPT = 8192  # spans that wait to be sent; what comes on top of them is dropped
TIMEOUT = 5.0  # seconds that the last ones get at the end
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NAMES = {"model": "gen_ai.request.model"} | {
    f"{each}_tokens": f"gen_ai.usage.{each}_tokens" for each in ("input", "output")
}

Send = Callable[[bytes], Awaitable[object]]
"""Hands spans to the server. Raises `Problem`."""


class RunTrace:
    """The spans of one attempt. Its methods may be called from any thread."""

    def __init__(self, root: Span, export: Callable[[Span], None]) -> None:
        self._root = root
        self._export = export
        self._steps: dict[str, Span] = {}

    def begin_step(self, step: str, name: str, kind: StepKind, *, parent: str | None) -> None:
        above = _span_id(parent) if parent is not None else self._root.id
        attributes = {"orchestrator.step": step, "orchestrator.step.kind": str(kind)}
        self._steps[step] = Span(name, INTERNAL, self._root.trace, _span_id(step), above, attributes)

    def end_step(self, step: str, data: Mapping[str, Any], *, error: str | None = None) -> None:
        """`data` as in the step's event; of a model call it gets the names of OpenTelemetry's conventions."""
        span = self._steps.pop(step, None)
        if span is not None:
            span.attributes |= {_NAMES[name]: value for name, value in data.items() if name in _NAMES}
            self._end(span, error)

    def end(self, status: int, *, error: str | None) -> None:
        """The attempt has ended, and with it whatever has not."""
        for span in list(self._steps.values()):
            self._end(span, error)
        self._root.attributes["http.response.status_code"] = status
        self._end(self._root, error)

    def _end(self, span: Span, error: str | None) -> None:
        span.ended, span.error = time_ns(), error
        self._export(span)


class Tracer:
    """Traces those runs that the caller's trace says, else `ratio` of them. Sends in the loop where runs begin."""

    def __init__(self, agent: str, *, ratio: float, send: Send) -> None:
        self._agent = agent
        self._ratio = ratio
        self._send = send
        self._waiting: deque[Span] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sending: asyncio.Task[None] | None = None

    def begin(self, traceparent: str | None, **attributes: Any) -> RunTrace | None:
        """The trace of an attempt that begins; None if it is none of those that are traced."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found:
            trace, parent, is_sampled = found[1], found[2], bool(int(found[3], 16) & 1)
        else:
            trace, parent, is_sampled = os.urandom(16).hex(), "", random.random() < self._ratio  # noqa: S311 - sampling
        if not is_sampled:
            return None
        self._loop = asyncio.get_running_loop()
        return RunTrace(Span(self._agent, SERVER, trace, os.urandom(8).hex(), parent, attributes), self._add)

    async def close(self) -> None:
        """Send what is left, within `TIMEOUT`."""
        self._begin()
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=TIMEOUT)
            self._sending.cancel()

    def _add(self, span: Span) -> None:
        assert self._loop is not None
        if len(self._waiting) < KEPT:  # a server that is slow or away must not cost an agent anything
            self._waiting.append(span)
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._waiting and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        """Whatever came while the previous message was answered is the next one."""
        while self._waiting:
            spans = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                await self._send(dump(spans))
            except Problem:  # the server is away, or does not want them: spans are lost, runs are not
                continue


def create_tracer(start: InstanceStart, send: Send) -> Tracer | None:
    """What sends spans, if the settings of the installation say which share of runs is traced."""
    ratio = start.settings.get("trace_sample_ratio")
    return None if ratio is None else Tracer(start.agent, ratio=float(ratio), send=send)


def _span_id(step: str) -> str:
    """A step's identity is a UUID whose last 62 bits are random."""
    return step.replace("-", "")[-16:]
