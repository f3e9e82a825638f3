"""Spans of runs and steps on their way from an instance to the server, which alone knows the collector.

Trace context is W3C's. Whoever sends them may be any code: `parse` lets through what a span is, and so much of it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from orchestrator_runtime.contract.errors import BadInput

INTERNAL, SERVER = 1, 2  # kinds of spans, as OTLP numbers them
AT_ONCE = 256  # spans in one message
BYTES = 1024 * 1024  # of one message
ATTRIBUTES = 32  # of one span
TEXT = 1024  # characters of a name, a value, an error
_TRACE, _ID = re.compile("(?!0{32})[0-9a-f]{32}"), re.compile("(?!0{16})[0-9a-f]{16}")


@dataclass(slots=True)
class Span:
    """Times are in nanoseconds since the epoch, identities in hexadecimal digits; `error` if it ended with one.

    Values of `attributes` are str, int, float or bool; `parent` is empty for the first span of a trace.
    """

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    began: int = field(default_factory=time.time_ns)
    ended: int = 0
    error: str | None = None


def dump(spans: Iterable[Span]) -> bytes:
    """The body of a message."""
    return json.dumps([asdict(span) for span in spans], default=str).encode()


def parse(body: bytes) -> list[Span]:
    """What `dump` wrote, checked. Raises `BadInput` (`spans_invalid`)."""
    try:
        given = json.loads(body) if len(body) <= BYTES else None
    except (ValueError, RecursionError):  # no JSON: refused below
        given = None
    if not isinstance(given, list) or len(given) > AT_ONCE:
        raise _invalid(f"a list of at most {AT_ONCE} in {BYTES} bytes")
    return [_span(each) for each in given]


def _span(given: Any) -> Span:
    if not isinstance(given, dict) or set(given) != {one.name for one in fields(Span)}:
        raise _invalid("objects with the members of a span")
    error = given["error"]
    if not (isinstance(given["name"], str) and isinstance(given["attributes"], dict)):
        raise _invalid("named, and have attributes")
    parent = given["parent"]
    if not (_is(_TRACE, given["trace"]) and _is(_ID, given["id"]) and (parent == "" or _is(_ID, parent))):
        raise _invalid("identified in hexadecimal digits")
    if given["kind"] not in (INTERNAL, SERVER) or not (_is_time(given["began"]) and _is_time(given["ended"])):
        raise _invalid("of a known kind, and in nanoseconds")
    if error is not None and not isinstance(error, str):
        raise _invalid("ended by a text or by nothing")
    attributes = {_text(name): _value(value) for name, value in list(given["attributes"].items())[:ATTRIBUTES]}
    return Span(
        name=_text(given["name"]),
        kind=given["kind"],
        trace=given["trace"],
        id=given["id"],
        parent=given["parent"],
        attributes=attributes,
        began=given["began"],
        ended=given["ended"],
        error=None if error is None else _text(error),
    )


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _value(value: Any) -> Any:
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return _text(str(value))


def _text(value: str) -> str:
    """Cut, and without halves of surrogate pairs, which no encoder takes."""
    return value[:TEXT].encode(errors="replace").decode()


def _invalid(what: str) -> BadInput:
    return BadInput(f"Spans are {what}", code="spans_invalid")
