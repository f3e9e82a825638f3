"""Backups of a database that is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert

from control_api.encryption.files import FileKeys
from control_api.store.backup import back_up
from control_api.store.backup_file import CHUNK, LENGTH, TAG_BYTES, seal
from control_api.store.database import Database, open_database
from control_api.store.keys import InstallationKey
from control_api.store.restore import restore
from control_api.store.tables import organizations
from orchestrator_runtime.contract.errors import BadInput, Unavailable
from tests.fakes.keys import INSTALLATION
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
    saved = back_up(database_url, tmp_path, installation=key(tmp_path), now=NOW)
    assert saved.stat().st_mode & 0o777 == 0o600
    await add(database, "after")
    await database.close()
    kept = restore(database_url, saved, masters=FileKeys(tmp_path / "key"), kept=tmp_path / "kept", now=NOW)
    assert await names(database_url) == ["before"]
    assert kept is not None
    restore(database_url, kept, masters=FileKeys(tmp_path / "key"), kept=tmp_path / "kept again", now=NOW)
    assert await names(database_url) == ["after", "before"]


async def test_nothing_of_the_database_can_be_read_in_a_backup(database_url: str, tmp_path: Path) -> None:
    database = open_database(database_url)
    await add(database, "canary-organization")
    await database.close()
    saved = back_up(database_url, tmp_path / "backups", installation=key(tmp_path), now=NOW)
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [saved.name]
    content = saved.read_bytes()
    assert b"canary" not in content
    assert b"organizations" not in content


@pytest.mark.parametrize("damage", ["cut", "chunk left out", "bit", "header"])
def test_a_damaged_backup_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "content").write_bytes(os.urandom(2 * CHUNK + 1))
    with (tmp_path / "content").open("rb") as source, (tmp_path / "sealed").open("wb") as target:
        seal(source, target, key(tmp_path))
    whole = (tmp_path / "sealed").read_bytes()
    size = CHUNK + TAG_BYTES + LENGTH.size
    head = len(whole) - 2 * size - (1 + TAG_BYTES + LENGTH.size)
    damaged = {
        "cut": whole[: head + 2 * size],
        "chunk left out": whole[:head] + whole[head + size :],
        "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "header": whole[: head - 1] + b" }" + whole[head:],
    }[damage]
    (tmp_path / "damaged").write_bytes(damaged)
    database = tmp_path / "ours.db"
    database.write_bytes(b"as it was")
    with pytest.raises(BadInput) as refused:
        restore(
            f"sqlite:///{database}",
            tmp_path / "damaged",
            masters=FileKeys(tmp_path / "key"),
            kept=tmp_path / "kept",
            now=NOW,
        )
    assert refused.value.code == "backup_invalid"
    assert database.read_bytes() == b"as it was"


def key(folder: Path) -> InstallationKey:
    """Wrapped by the master key in `folder`, as a start would do it."""
    masters = FileKeys(folder / "key")
    masters.create()
    return InstallationKey.make(1, masters.current())


def test_a_backup_that_fails_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as failed:
        back_up(f"sqlite:///{tmp_path}/missing/none.db", tmp_path / "backups", installation=INSTALLATION, now=NOW)
    assert failed.value.code == "backup_failed"
    assert list((tmp_path / "backups").iterdir()) == []


def test_what_is_no_backup_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    database, foreign = tmp_path / "ours.db", tmp_path / "foreign.db"
    database.write_bytes(b"as it was")
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (x)")
    (tmp_path / "text").write_text("no database at all, but long enough to have a header")
    for file in (foreign, tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(BadInput) as refused:
            restore(f"sqlite:///{database}", file, masters=FileKeys(tmp_path / "key"), kept=tmp_path, now=NOW)
        assert refused.value.code == "backup_invalid"
    assert database.read_bytes() == b"as it was"
