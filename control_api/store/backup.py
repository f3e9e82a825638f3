"""Backups: a consistent copy of the database while it is in use.

SQLite is copied by its own backup interface; PostgreSQL by `pg_dump`, where that program is installed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import make_url

from orchestrator_runtime.contract.errors import Unavailable


def back_up(url: str, folder: Path, *, now: datetime) -> Path:
    """Copy the database at `url` into `folder`; returns the file. Blocks: run it in a thread.

    Raises `Unavailable` (`backup_failed`) and leaves no half of a file behind.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    target = folder / f"{now:%Y%m%dT%H%M%S%f}.{'db' if sqlite else 'dump'}"
    unfinished = target.with_suffix(".part")
    try:
        if sqlite:
            assert parsed.database is not None
            _copy_sqlite(parsed.database, unfinished)
        else:
            _dump_postgres(parsed.set(drivername="postgresql").render_as_string(hide_password=False), unfinished)
        unfinished.chmod(0o600)
        unfinished.rename(target)
    except (OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
        unfinished.unlink(missing_ok=True)
        raise Unavailable(
            f"The backup failed: {error}", code="backup_failed", hint=f"Is there space left for {folder}?"
        ) from error
    return target


def _copy_sqlite(source: str, target: Path) -> None:
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
    with target.open("rb") as copied:
        os.fsync(copied.fileno())


def _dump_postgres(url: str, target: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise FileNotFoundError("pg_dump is not installed; it is part of PostgreSQL's client programs")
    subprocess.run([program, "--format=custom", f"--file={target}", url], check=True)
