"""What an agent prints, as JSON lines that name the run they belong to: {"at", "run", "stream", "line"}.

The supervisor writes them into the revision's log. What belongs to no run is passed on as it is, as are bytes that an
agent writes past `sys.stdout`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from orchestrator_runtime.frameworks.current import current

LONGEST = 8000  # characters of one line; what is longer becomes several


class RunOutput:
    """Stands in for a standard stream. Lines of different runs never mix, whichever thread they come from."""

    def __init__(self, stream: TextIO, name: str, *, redact: Callable[[str], str]) -> None:
        self._stream = stream
        self._name = name
        self._redact = redact
        self._lock = threading.Lock()
        self._begun: dict[str, str] = {}  # run -> a line without its end

    def write(self, text: str) -> int:
        active = current()
        run = active.run.run if active is not None else ""
        with self._lock:
            *lines, rest = (self._begun.pop(run, "") + text).split("\n")
            if len(rest) > LONGEST:
                whole = len(rest) - len(rest) % LONGEST
                lines.append(rest[:whole])
                rest = rest[whole:]
            if rest:
                self._begun[run] = rest
            for line in lines:
                self._write_line(run, line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def end(self, run: str) -> None:
        """The run has ended: what it printed without a line break is a line, too."""
        with self._lock:
            if rest := self._begun.pop(run, ""):
                self._write_line(run, rest)

    def _write_line(self, run: str, line: str) -> None:
        line = self._redact(line)  # before it is cut: half a secret would not be found
        for start in range(0, max(len(line), 1), LONGEST):
            piece = line[start : start + LONGEST]
            if run:
                record = {"at": round(time.time(), 6), "run": run, "stream": self._name, "line": piece}
                piece = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            self._stream.write(piece.encode(errors="replace").decode() + "\n")

    def __getattr__(self, name: str) -> Any:  # encoding, fileno, isatty, buffer and the like
        return getattr(self._stream, name)


def install(redact: Callable[[str], str]) -> Callable[[str], None]:
    """Replace the standard streams. Returns what is to be called with the id of a run that has ended."""
    streams = [RunOutput(getattr(sys, name), name, redact=redact) for name in ("stdout", "stderr")]
    sys.stdout, sys.stderr = streams

    def end(run: str) -> None:
        for stream in streams:
            stream.end(run)

    return end
