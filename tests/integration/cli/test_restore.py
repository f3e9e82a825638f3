"""A backup put back: what was there before is kept, and nothing is touched for a file that is no backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_api.cli.main import run
from control_api.encryption.files import FileKeys
from control_api.store.backup import back_up
from control_api.store.keys import InstallationKey

NOW = datetime(2026, 11, 24, 14, tzinfo=UTC)


def write_database(path: Path, words: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("CREATE TABLE IF NOT EXISTS said (words TEXT)")
        database.execute("DELETE FROM said")
        database.execute("INSERT INTO said VALUES (?)", (words,))


def read_database(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT words FROM said").fetchone()[0])


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path))
    monkeypatch.delenv("ORCHESTRATOR_DATABASE", raising=False)
    write_database(tmp_path / "orchestrator.db", "before")
    FileKeys(tmp_path / "master.key").create()
    return tmp_path / "orchestrator.db"


def test_the_backup_takes_the_database_s_place_and_the_one_before_is_kept(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = back_up(f"sqlite:///{database}", database.parent / "backups", installation=key(database), now=NOW)
    write_database(database, "after")
    assert run(["restore", str(backup), "--yes"]) == 0
    assert read_database(database) == "before"
    kept = Path(capsys.readouterr().out.split("is in ")[1].split(".db")[0] + ".db")
    assert run(["restore", str(kept), "--yes"]) == 0
    assert read_database(database) == "after"


def test_a_backup_of_the_time_before_they_were_sealed_is_taken_as_it_is(database: Path, tmp_path: Path) -> None:
    write_database(tmp_path / "old.db", "long ago")
    assert run(["restore", str(tmp_path / "old.db"), "--yes"]) == 0
    assert read_database(database) == "long ago"


def test_without_the_master_key_that_sealed_it_a_backup_changes_nothing(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = back_up(f"sqlite:///{database}", database.parent / "backups", installation=key(database), now=NOW)
    write_database(database, "after")
    (database.parent / "master.key").write_bytes(bytes(32))
    assert run(["restore", str(backup), "--yes"]) == 1
    assert "(wrong_key)" in capsys.readouterr().err
    assert read_database(database) == "after"


def key(database: Path) -> InstallationKey:
    return InstallationKey.make(1, FileKeys(database.parent / "master.key").current())


@pytest.mark.parametrize("content", [b"no database", None])
def test_a_file_that_is_no_backup_changes_nothing(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    wrong = tmp_path / "wrong.db"
    if content is not None:
        wrong.write_bytes(content)
    assert run(["restore", str(wrong), "--yes"]) == 1
    assert "(backup_invalid)" in capsys.readouterr().err
    assert read_database(database) == "before"


def test_another_program_s_database_is_no_backup(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, other:
        other.execute("CREATE TABLE x (y)")
    assert run(["restore", str(tmp_path / "other.db"), "--yes"]) == 1
    assert "another program's data" in capsys.readouterr().err
