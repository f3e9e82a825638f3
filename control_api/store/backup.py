"""Backups: a consistent copy of the database while it is in use, sealed (`backup_file`).

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
from typing import BinaryIO

from sqlalchemy import URL, make_url

from control_api.store.backup_file import seal
from control_api.store.keys import InstallationKey
from orchestrator_runtime.contract.errors import Unavailable


def back_up(url: str, folder: Path, *, installation: InstallationKey, now: datetime) -> Path:
    """Copy the database at `url` into `folder`, sealed; returns the file. Blocks: run it in a thread.

    Raises `Unavailable` (`backup_failed`) and leaves no half of a file behind.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    target = folder / f"{now:%Y%m%dT%H%M%S%f}.{'db' if sqlite else 'dump'}"
    copied, unfinished = target.with_suffix(".copy"), target.with_suffix(".part")
    try:
        if sqlite:
            assert parsed.database is not None
            _copy_sqlite(parsed.database, copied)
        else:
            _dump_postgres(parsed, copied)
        with copied.open("rb") as source, _create(unfinished) as sealed:
            seal(source, sealed, installation)
            sealed.flush()
            os.fsync(sealed.fileno())
        unfinished.rename(target)
    except (OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"The backup failed: {error}", code="backup_failed", hint=f"Is there space left for {folder}?"
        ) from error
    finally:
        copied.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
    return target


def _create(path: Path) -> BinaryIO:
    """A new file that nobody else can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _copy_sqlite(source: str, target: Path) -> None:
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def libpq(url: URL) -> tuple[str, dict[str, str]]:
    """How PostgreSQL's programs get at the database: a URL for the command line, which every user of the machine can
    read, and an environment with the password.
    """
    environment = {**os.environ} if url.password is None else {**os.environ, "PGPASSWORD": str(url.password)}
    shown = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return shown.render_as_string(), environment


def _dump_postgres(url: URL, target: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise FileNotFoundError("pg_dump is not installed; it is part of PostgreSQL's client programs")
    address, environment = libpq(url)
    with _create(target) as dump:
        subprocess.run([program, "--format=custom", f"--dbname={address}"], check=True, stdout=dump, env=environment)
