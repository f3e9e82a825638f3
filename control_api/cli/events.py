"""Reads server-sent events (WHATWG HTML, 9.2.6) from anything that gives lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `data` is its text."""

    name: str
    data: str
    id: str | None = None

    def value(self) -> Any:
        """The data as JSON, or as the text it is."""
        try:
            return json.loads(self.data)
        except ValueError:
            return self.data


def read_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events in a body; an event that the end of the body cuts short is left out."""
    name, data, identity = "message", list[str](), None
    for raw in lines:
        line = raw.decode(errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield ServerEvent(name, "\n".join(data), identity)
            name, data = "message", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)
        elif key == "id":
            identity = value
