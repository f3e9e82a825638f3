"""A stored line of a log as it is shown. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from control_api.schemas import written


def shown(line: bytes) -> bytes:
    """The line with its time as everywhere in the API; what a crash cut short stays as it is."""
    try:
        record = json.loads(line)
        record["at"] = written(datetime.fromtimestamp(record["at"], UTC))
    except (ValueError, TypeError, KeyError, OverflowError, OSError):  # no JSON, or no time that can be one
        return line
    return json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n"
