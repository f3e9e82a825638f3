"""Writes what instances print to one file of JSON lines per revision, and keeps those files small.

The runtime prints JSON lines that name the run they belong to; anything else (C code, a program that the agent
starts) is wrapped here. Nothing is interpreted beyond that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from domain.clock import Clock
from domain.home import Home

MAX_LINE_BYTES = 64 * 1024
MAX_FILE_BYTES = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
MOST_OPEN = 256  # files
PLATFORM_FIELDS = frozenset({"at", "run", "stream", "line"})


class RevisionLog:
    """The log file of one revision; at `MAX_FILE_BYTES` it becomes FILE.1, and the former FILE.1 goes.

    Closed, it is opened again by the next line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file: BinaryIO | None = None

    def _open(self) -> BinaryIO:
        return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)

    def write(self, record: dict[str, Any]) -> None:
        # A full disk loses log lines, never a run: what an agent prints is not worth stopping it for.
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = self._open()
            self._file.write(json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n")
            if self._file.tell() > MAX_FILE_BYTES:
                self.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._open()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class OutputReader:
    """Reads one pipe of an instance until its end and hands every line to a log.

    `tail` keeps the last lines as text, for the message of an instance that could not start.
    """

    def __init__(
        self, pipe: int, *, stream: str, instance: str, log: RevisionLog, clock: Clock, tail: list[str]
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pipe = pipe
        self._stream = stream
        self._instance = instance
        self._log = log
        self._clock = clock
        self._tail = tail
        self._rest = b""
        os.set_blocking(pipe, False)
        asyncio.get_running_loop().add_reader(pipe, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:  # another wake-up took it
            return
        except OSError:
            data = b""  # the other end is gone in an unusual way; treat it as the end
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > MAX_LINE_BYTES:
            self._line(self._rest)
            self._rest = b""

    def close(self) -> None:
        if self.ended.done():
            return
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)
        if self._rest:
            self._line(self._rest)
        self.ended.set_result(None)

    def _line(self, line: bytes) -> None:
        record = _own_record(line)
        if record is None:
            record = {
                "at": self._clock.now().timestamp(),
                "stream": self._stream,
                "line": line.decode(errors="replace"),
            }
        self._tail.append(str(record["line"]))
        del self._tail[:-20]
        self._log.write({**record, "instance": self._instance})


def _own_record(line: bytes) -> dict[str, Any] | None:
    """The runtime's own JSON line, or None: agents may print JSON too, with other members."""
    if not line.startswith(b'{"at":'):
        return None
    try:
        record = json.loads(line[:MAX_LINE_BYTES])
    except (ValueError, RecursionError):  # cut, or not the runtime's
        return None
    if not isinstance(record, dict) or not record.keys() <= PLATFORM_FIELDS or "line" not in record:
        return None
    at, *texts = record.pop("at"), *record.values()
    is_ours = isinstance(at, float) and math.isfinite(at) and all(isinstance(text, str) for text in texts)
    return {"at": at, **record} if is_ours else None


class RevisionLogs:
    """The log files, one per revision. Every deployment makes a revision: only those used last stay open."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._logs: dict[tuple[str, str], RevisionLog] = {}

    def of(self, organization: str, revision: str) -> RevisionLog:
        key = (organization, revision)
        log = self._logs.pop(key, None) or RevisionLog(self._home.log(organization, revision))
        self._logs[key] = log
        if len(self._logs) > MOST_OPEN:
            self._logs.pop(next(iter(self._logs))).close()
        return log


LogFor = Callable[[str, str], RevisionLog]
"""The log of (organization, revision)."""
