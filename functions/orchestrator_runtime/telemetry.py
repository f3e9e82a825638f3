"""Spans of runs and their steps, sent to an OpenTelemetry collector by OTLP over HTTP, as JSON (OTLP 1.x).

Without the SDK: an agent's environment may have none or any version of it, and importing it takes longer than a cold
start may. Trace context is W3C's. Without an endpoint in the instance's settings there is nothing of this.
"""

from __future__ import annotations

import json
import os
import queue
import random
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.contract.states import StepKind

INTERNAL, SERVER = 1, 2  # kinds of spans
ERROR = 2  # status
AT_ONCE = 512  # spans in one request
KEPT = 8192  # spans that wait for the collector; what comes on top of them is dropped
TIMEOUT = 5.0  # seconds of one request, and of the last one at the end
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NAMES = {"model": "gen_ai.request.model"} | {
    f"{each}_tokens": f"gen_ai.usage.{each}_tokens" for each in ("input", "output")
}


@dataclass(slots=True)
class Span:
    """Times are in nanoseconds since the epoch, identities in hexadecimal digits; `error` if it ended with one."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    began: int = field(default_factory=time.time_ns)
    ended: int = 0
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "traceId": self.trace,
            "spanId": self.id,
            **({"parentSpanId": self.parent} if self.parent else {}),
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": str(self.began),
            "endTimeUnixNano": str(self.ended),
            "attributes": _attributes(self.attributes),
            **({"status": {"code": ERROR, "message": self.error}} if self.error is not None else {}),
        }


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
        span.ended, span.error = time.time_ns(), error
        self._export(span)


class Tracer:
    """Traces those runs that the caller's trace says, else `ratio` of them. Sends from a thread of its own."""

    def __init__(self, start: InstanceStart, *, endpoint: str, ratio: float) -> None:
        self._agent = start.agent
        self._resource = {
            "service.name": start.agent,
            "service.version": start.revision,
            "service.instance.id": start.instance,
            "orchestrator.organization": start.organization,
        }
        self._address = f"{endpoint.rstrip('/')}/v1/traces"
        self._ratio = ratio
        self._waiting: queue.Queue[Span | None] = queue.Queue(KEPT)
        self._thread: threading.Thread | None = None

    def begin(self, traceparent: str | None, **attributes: Any) -> RunTrace | None:
        """The trace of an attempt that begins; None if it is none of those that are traced."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found:
            trace, parent, is_sampled = found[1], found[2], bool(int(found[3], 16) & 1)
        else:
            trace, parent, is_sampled = os.urandom(16).hex(), "", random.random() < self._ratio  # noqa: S311 - sampling
        if not is_sampled:
            return None
        return RunTrace(Span(self._agent, SERVER, trace, os.urandom(8).hex(), parent, attributes), self._add)

    def close(self) -> None:
        """Send what is left, within `TIMEOUT`."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(TIMEOUT)

    def _add(self, span: Span) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="telemetry", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(span)
        except queue.Full:  # a collector that is slow or away must not cost an agent anything
            return

    def _send_all(self) -> None:
        """Whatever came while the previous request was made is the next one."""
        while True:
            span = self._waiting.get()
            spans = []
            while span is not None:
                spans.append(span)
                if len(spans) == AT_ONCE or self._waiting.empty():
                    break
                span = self._waiting.get()
            if spans:
                self._send(spans)
            if span is None:
                return

    def _send(self, spans: list[Span]) -> None:
        scope = {"scope": {"name": "orchestrator_runtime"}, "spans": [span.as_json() for span in spans]}
        resource = {"attributes": _attributes(self._resource)}
        body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()
        request = urllib.request.Request(self._address, body, {"Content-Type": "application/json"})  # noqa: S310 - the operator's
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310 - the operator's
                return
        except (OSError, ValueError):  # not there, or not a collector: spans are lost, runs are not
            return


def create_tracer(start: InstanceStart) -> Tracer | None:
    """What sends spans, if the settings of the installation name a collector."""
    endpoint = start.settings.get("otlp_endpoint")
    if not endpoint:
        return None
    return Tracer(start, endpoint=str(endpoint), ratio=float(start.settings.get("trace_sample_ratio", 0.1)))


def _span_id(step: str) -> str:
    """A step's identity is a UUID whose last 62 bits are random."""
    return step.replace("-", "")[-16:]


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
