"""Backups of a database that is in use."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from control_api.store.backup import back_up
from control_api.store.database import Database, open_database
from control_api.store.restore import restore
from control_api.store.tables import organizations
from orchestrator_runtime.contract.errors import BadInput, Unavailable
from tests.integration.postgres import INSTALLED

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def postgres_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH with the newest `pg_dump`, which must be no older than the server."""
    if shutil.which("pg_dump") is None:
        newest = max(INSTALLED.glob("*/bin"), key=lambda path: int(path.parent.name))
        monkeypatch.setenv("PATH", str(newest), prepend=":")


async def add(database: Database, name: str) -> None:
    await database.write(
        lambda session: session.execute(insert(organizations).values(id=name, name=name, created_at=NOW))
    )


async def names(url: str) -> list[str]:
    database = open_database(url)
    try:
        return await database.read(lambda session: sorted(session.execute(organizations.select()).scalars()))
    finally:
        await database.close()


async def test_what_was_written_after_a_backup_is_gone_when_it_is_restored(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url)
    await add(database, "before")
    saved = back_up(database_url, tmp_path, now=NOW)
    assert saved.stat().st_mode & 0o777 == 0o600
    await add(database, "after")
    await database.close()
    kept = restore(database_url, saved, kept=tmp_path / "kept", now=NOW)
    assert await names(database_url) == ["before"]
    assert kept is not None
    restore(database_url, kept, kept=tmp_path / "kept again", now=NOW)
    assert await names(database_url) == ["after", "before"]


def test_a_backup_that_fails_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as failed:
        back_up(f"sqlite:///{tmp_path}/missing/none.db", tmp_path, now=NOW)
    assert failed.value.code == "backup_failed"
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_backup_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    database, foreign = tmp_path / "ours.db", tmp_path / "foreign.db"
    database.write_bytes(b"as it was")
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (x)")
    (tmp_path / "text").write_text("no database at all, but long enough to have a header")
    for file in (foreign, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(BadInput) as refused:
            restore(f"sqlite:///{database}", file, kept=tmp_path, now=NOW)
        assert refused.value.code == "backup_invalid"
    assert database.read_bytes() == b"as it was"
