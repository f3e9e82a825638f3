"""Puts a backup back. The platform must be down: `orchestrator restore` sees to that, nobody else calls it.

What was there before is kept beside the backups, so that a wrong choice can be undone. An older backup is migrated
by the next start, a newer one is refused by it, as with any database. Backups of the time before they were sealed are
taken as they are.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, make_url

from control_api.store.backup import back_up, libpq
from control_api.store.backup_file import chunks, read_header
from control_api.store.keys import InstallationKey, known_as
from domain.ports import MasterKeys
from orchestrator_runtime.contract.errors import BadInput, Conflict, Unavailable

OURS = "alembic_version"  # a table that every database of ours has
DROP_EVERYTHING = """
DO $$
DECLARE named record;
BEGIN
    FOR named IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
        EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', named.tablename);
    END LOOP;
    FOR named IN SELECT oid::regprocedure AS signature FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e') LOOP
        EXECUTE 'DROP ROUTINE IF EXISTS ' || named.signature || ' CASCADE';
    END LOOP;
END $$
"""
"""Tables and functions of the one schema that is ours; functions of extensions stay."""


def restore(url: str, file: Path, *, masters: MasterKeys, kept: Path, now: datetime) -> Path | None:
    """Replace the database at `url` by the backup `file`; returns where the one before is kept, if there was one.

    Raises, before anything is touched, `BadInput` (`backup_invalid`), `Conflict` (`wrong_key`) if no master key opens
    it, and what the master keys raise; `Unavailable` (`restore_failed`) if PostgreSQL's program fails.
    """
    parsed = make_url(url)
    with tempfile.TemporaryDirectory(prefix="restoring-", dir=_folder(kept)) as folder:
        opened = Path(folder, "opened")
        _open(file, opened, masters)
        if parsed.get_backend_name() == "sqlite":
            assert parsed.database is not None
            database = Path(parsed.database)
            _check_sqlite(opened, file)
            before = _kept(url, kept, masters, now) if database.exists() else None
            _replace(database, opened)
            return before
        before = _kept(url, kept, masters, now)
        _restore_postgres(parsed, opened)
        return before


def _folder(kept: Path) -> Path:
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    return kept


def _kept(url: str, kept: Path, masters: MasterKeys, now: datetime) -> Path:
    return back_up(url, kept, installation=InstallationKey.make(0, masters.current()), now=now)


def _open(file: Path, target: Path, masters: MasterKeys) -> None:
    """Write what is in the backup to `target`."""
    if not file.is_file():
        raise _invalid(file, "there is no such file")
    with file.open("rb") as source:
        sealed = read_header(source)
        if sealed is None:
            shutil.copyfile(file, target)
            return
        master = known_as(sealed.master, masters)
        if master is None:
            raise Conflict(
                f"{file} was sealed with the master key {sealed.master}, which is not here",
                code="wrong_key",
                hint="Put the key that was saved with it into the home folder, then restore.",
            )
        key = sealed.opened(master)
        with target.open("xb") as opened:
            opened.writelines(chunks(source, sealed, key))


def _replace(database: Path, opened: Path) -> None:
    copied = database.with_suffix(".restoring")
    shutil.copyfile(opened, copied)  # the folder of backups may be on another disk
    copied.chmod(0o600)
    with copied.open("rb") as written:
        os.fsync(written.fileno())
    for rest in ("-wal", "-shm"):  # of the database that goes; SQLite would apply them to the one that comes
        database.with_name(database.name + rest).unlink(missing_ok=True)
    copied.replace(database)


def _check_sqlite(opened: Path, file: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{opened.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as reading:
            sound = reading.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            ours = reading.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (OURS,)).fetchone() == (1,)
    except sqlite3.Error as error:
        raise _invalid(file, str(error)) from error
    if not sound or not ours:
        raise _invalid(file, "it is damaged" if not sound else "it holds another program's data")


def _restore_postgres(url: URL, file: Path) -> None:
    """In one transaction: drop what is there, which may be of a newer version than the backup, and take that."""
    programs = {name: shutil.which(name) for name in ("pg_restore", "psql")}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        raise Unavailable(
            f"{missing[0]} is not installed", code="restore_failed", hint="Install PostgreSQL's client programs."
        )
    script = file.with_suffix(".sql")
    _run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--file={script}", str(file))
    address, environment = libpq(url)
    options = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--dbname={address}")
    _run("psql", *options, f"--command={DROP_EVERYTHING}", f"--file={script}", environment=environment)


def _run(program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise Unavailable(
            f"{program} failed: {done.stderr.strip()}",
            code="restore_failed",
            hint="The database is as it was before.",
        )


def _invalid(file: Path, why: str) -> BadInput:
    return BadInput(
        f"{file} is no backup: {why}", code="backup_invalid", hint="`orchestrator backup` writes one into HOME/backups."
    )
