"""Puts a backup back. The platform must be down: `orchestrator restore` sees to that, nobody else calls it.

What was there before is kept beside the backups, so that a wrong choice can be undone. An older backup is migrated
by the next start, a newer one is refused by it, as with any database.
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

from control_api.store.backup import back_up
from orchestrator_runtime.contract.errors import BadInput, Unavailable

OURS = "alembic_version"  # a table that every database of ours has


def restore(url: str, file: Path, *, kept: Path, now: datetime) -> Path | None:
    """Replace the database at `url` by the backup `file`; returns where the one before is kept, if there was one.

    Raises `BadInput` (`backup_invalid`) before anything is touched, `Unavailable` (`restore_failed`) if PostgreSQL's
    program fails.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        return _restore_sqlite(Path(parsed.database), file, url=url, kept=kept, now=now)
    before = back_up(url, kept, now=now)
    _restore_postgres(parsed.set(drivername="postgresql").render_as_string(hide_password=False), file)
    return before


def _restore_sqlite(database: Path, file: Path, *, url: str, kept: Path, now: datetime) -> Path | None:
    _check_sqlite(file)
    before = back_up(url, kept, now=now) if database.exists() else None
    copied = database.with_suffix(".restoring")
    shutil.copyfile(file, copied)
    copied.chmod(0o600)
    with copied.open("rb") as written:
        os.fsync(written.fileno())
    for rest in ("-wal", "-shm"):  # of the database that goes; SQLite would apply them to the one that comes
        database.with_name(database.name + rest).unlink(missing_ok=True)
    copied.replace(database)
    return before


def _check_sqlite(file: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as reading:
            sound = reading.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            ours = reading.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (OURS,)).fetchone() == (1,)
    except sqlite3.Error as error:
        raise _invalid(file, str(error)) from error
    if not sound or not ours:
        raise _invalid(file, "it is damaged" if not sound else "it holds another program's data")


def _restore_postgres(url: str, file: Path) -> None:
    if not file.is_file():
        raise _invalid(file, "there is no such file")
    program = shutil.which("pg_restore")
    if program is None:
        raise Unavailable("pg_restore is not installed", code="restore_failed", hint="Install PostgreSQL's clients.")
    options = ["--clean", "--if-exists", "--single-transaction", "--no-owner", f"--dbname={url}"]
    done = subprocess.run([program, *options, str(file)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(
            f"pg_restore failed: {done.stderr.strip()}", code="restore_failed", hint="The database is as it was before."
        )


def _invalid(file: Path, why: str) -> BadInput:
    return BadInput(
        f"{file} is no backup: {why}", code="backup_invalid", hint="`orchestrator backup` writes one into HOME/backups."
    )
