"""`up` and the real supervisor and server: what keeps the server from starting, and upgrades."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from control_api.cli import process
from control_api.cli.main import run
from control_api.store.migrate import migrate
from domain.home import Home
from tests.integration.store.older import at_first

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        made = Home(Path(folder))
        made.make()
        monkeypatch.setenv("ORCHESTRATOR_HOME", folder)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        monkeypatch.delenv("ORCHESTRATOR_URL", raising=False)
        try:
            yield made
        finally:
            process.stop(made)


@pytest.fixture
def up(home: Home, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(("up", "--port", "0", *arguments))
        return code, *capsys.readouterr()

    return call


def database(home: Home, revision: str) -> None:
    """A database of this program's shape, which says that it is of another revision."""
    url = f"sqlite:///{home.database}"
    migrate(url, backups=home.backups, now=datetime.now(UTC))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def started_once(home: Home) -> bool:
    return "is started again" not in process.log_file(home).read_text()


def test_a_newer_database_is_refused_at_once_with_what_to_do(up: Cli, home: Home) -> None:
    database(home, "9999")
    code, _, said = up()
    assert (code, process.running_pid(home)) == (1, None)
    assert "error: The database was changed by a newer version of Orchestrator (revision 9999)" in said
    assert "Update this checkout, or restore a backup" in said
    assert "(database_newer)" in said
    assert '"level"' not in said, "the log is for operators; the reason is not to be looked for in it"
    assert started_once(home)


@pytest.mark.parametrize(
    ("key", "mode", "reason"), [(b"short", 0o600, "holds 5 bytes"), (bytes(32), 0o644, "can be read by others")]
)
def test_a_master_key_that_cannot_be_used_is_refused_at_once(
    up: Cli, home: Home, key: bytes, mode: int, reason: str
) -> None:
    home.master_key.write_bytes(key)
    home.master_key.chmod(mode)
    code, _, said = up()
    assert (code, process.running_pid(home)) == (1, None)
    assert reason in said
    assert "(master_key_invalid)" in said
    assert started_once(home)


def test_an_upgrade_backs_an_older_database_up_and_keeps_what_is_in_it(up: Cli, home: Home) -> None:
    at_first(f"sqlite:///{home.database}")
    code, said, notes = up("--upgrade")
    assert (code, said) == (0, f"Running at {home.address.read_text().strip()}\n"), notes
    [backup] = home.backups.iterdir()
    assert backup.stat().st_mode & 0o777 == 0o600
    engine = create_engine(f"sqlite:///{home.database}")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name, owner IS NOT NULL FROM agents")).all() == [("triage", 1)]
    engine.dispose()
    assert "nothing changed" in up("--upgrade")[1]
    assert list(home.backups.iterdir()) == [backup]
