"""The platform as processes of this machine: is it running, start it in the background, stop it.

Whether it runs is a question to the kernel, not to a file: the supervisor holds a lock on its pid file as long as it
lives. Nothing here talks HTTP.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from domain.home import Home
from orchestrator_runtime.contract.errors import Conflict, Unavailable, from_document

START_TIMEOUT = 120.0  # seconds; a start after an upgrade backs up and migrates the database first
LONG = 10.0  # seconds of a start after which a person wants to hear something
STOP_TIMEOUT = 60.0
STOP_POLL = 0.05
LOG_LINES_SHOWN = 20
SUPERVISOR = (sys.executable, "-m", "local.supervisor")
PACKAGES = ("builders", "control_api", "domain", "local", "functions/orchestrator_runtime")


def running_pid(home: Home) -> int | None:
    """The supervisor's process id, or None if this home's platform is down."""
    try:
        file = os.open(home.supervisor_pid, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(file, 32) or b"0")
    finally:
        os.close(file)
    return None


def log_file(home: Home) -> Path:
    """Where the platform's own JSON log lines go when it runs in the background."""
    return home.root / "platform.log"


def start(home: Home, *, port: int, environ: Mapping[str, str], waiting: Callable[[float], None]) -> str:
    """Start the platform in the background; returns its address once server and gateway serve.

    `waiting(seconds)` is called again and again while that takes long.

    Raises the `Problem` that it ended with; else `Unavailable` (`start_failed`) with the last lines that it logged, and
    ends it, if it exits or does not serve in time.
    """
    home.make()
    reading, writing = os.pipe()
    with log_file(home).open("ab") as log:
        process = subprocess.Popen(
            [*SUPERVISOR, "--home", str(home.root), "--port", str(port), "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**environ, "ORCHESTRATOR_HOME": str(home.root)},
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        said = _read_line(reading, START_TIMEOUT, waiting)
    finally:
        os.close(reading)
    if not said.startswith("http"):
        process.terminate()
        process.wait(STOP_TIMEOUT)
        if said:
            raise from_document(json.loads(said))
        raise Unavailable(
            f"It did not start; the last lines of {log_file(home)}:\n{last_lines(log_file(home))}",
            code="start_failed",
            hint="Mend what the log says, then start it again with `orchestrator up`.",
        )
    process.returncode = 0  # it outlives us: nobody waits for it, and Popen need not warn of that
    (home.run / "program").write_text(program_digest())
    return said


def stop(home: Home, *, pause: Callable[[float], None] = time.sleep) -> bool:
    """End the platform and wait until it has gone; False if it was not running. Raises `Conflict` if it stays."""
    pid = running_pid(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    waited = 0.0
    while running_pid(home) is not None:
        if waited >= STOP_TIMEOUT:
            raise Conflict(
                f"The supervisor (pid {pid}) was asked to end and has not yet",
                code="still_stopping",
                hint=f"See {log_file(home)}; `kill -9 {pid}` ends it at once, and no accepted run is lost.",
            )
        pause(STOP_POLL)
        waited += STOP_POLL
    return True


def program_changed(home: Home) -> bool:
    """Whether the code on disk is no longer the one that the running platform was started from."""
    try:
        return (home.run / "program").read_text() != program_digest()
    except FileNotFoundError:
        return True


def program_digest() -> str:
    """A digest over name, size and time of our own modules."""
    checkout = Path(__file__).resolve().parent.parent.parent
    whole = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((checkout / package).rglob("*.py")):
            status = path.stat()
            whole.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return whole.hexdigest()


def last_lines(path: Path, count: int = LOG_LINES_SHOWN) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _read_line(descriptor: int, timeout: float, waiting: Callable[[float], None]) -> str:
    """The line that comes within `timeout` seconds; empty if the other end closed first or the time is over."""
    began = time.monotonic()
    text = b""
    while not text.endswith(b"\n"):
        left = began + timeout - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, min(left, LONG)))
        if not ready and left > LONG:
            waiting(time.monotonic() - began)
            continue
        chunk = os.read(descriptor, 4096) if ready else b""
        if not chunk:
            return ""
        text += chunk
    return text.decode().strip()
