"""Logs of our own processes: one JSON object per line on stdout, with the correlation id of what is being done.

Every process of ours calls `configure` once. Logs of agents are something else: `local.supervisor.logs`.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
NAMES = {number: name for name, number in LEVELS.items()}

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="-")
"""Of the request or run that the current task works for; `-` outside of one."""

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """{"at", "level", "correlationId", "logger", "message", …}; what a call passes as `extra` becomes members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": NAMES.get(record.levelno, record.levelname),
            "correlationId": correlation_id.get(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _OF_EVERY_RECORD)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, *, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (stdout), from `level` (DEBUG, INFO, WARN, ERROR, FATAL) up."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
