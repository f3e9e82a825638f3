"""A backup put back: what was there before is kept, and nothing is touched for a file that is no backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_api.cli.main import run
from control_api.store.backup import back_up

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
    return tmp_path / "orchestrator.db"


def test_the_backup_takes_the_database_s_place_and_the_one_before_is_kept(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = back_up(f"sqlite:///{database}", database.parent / "backups", now=NOW)
    write_database(database, "after")
    assert run(["restore", str(backup), "--yes"]) == 0
    assert read_database(database) == "before"
    kept = Path(capsys.readouterr().out.split("is in ")[1].split(".db")[0] + ".db")
    assert read_database(kept) == "after"


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
