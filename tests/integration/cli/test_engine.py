"""`up`, `down`, `status` with real processes; the supervisor is a small program that takes its lock and answers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_api.bootstrap import prepare
from control_api.cli import process
from control_api.cli.main import run
from control_api.settings import Settings
from control_api.store import reachable
from domain.home import Home
from tests.fakes.certificates import Authority
from tests.fakes.manual_clock import ManualClock

FAKE = (sys.executable, "-m", "tests.fakes.supervisor_program")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        made = Home(Path(folder))
        monkeypatch.setenv("ORCHESTRATOR_HOME", folder)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        monkeypatch.delenv("ORCHESTRATOR_URL", raising=False)
        monkeypatch.setattr(process, "SUPERVISOR", FAKE)
        try:
            yield made
        finally:
            process.stop(made)


@pytest.fixture
def cli(home: Home, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        return code, *capsys.readouterr()

    return call


def test_up_starts_it_and_a_second_up_changes_nothing(cli: Cli, home: Home) -> None:
    code, said, _ = cli("up", "--port", "0")
    assert code == 0
    assert said == f"Running at {home.address.read_text().strip()}\n"
    pid = process.running_pid(home)
    code, said, _ = cli("up")
    assert (code, said) == (0, f"Already running at {home.address.read_text().strip()}; nothing changed\n")
    assert process.running_pid(home) == pid


@pytest.mark.parametrize("key", ["wrong", "missing"])
def test_up_says_that_the_master_key_is_not_the_right_one_and_starts_nothing(cli: Cli, home: Home, key: str) -> None:
    prepare(Settings(home=home.root), clock=ManualClock())
    if key == "wrong":
        home.master_key.write_bytes(bytes(32))
    else:
        home.master_key.unlink()
    code, _, said = cli("up", "--port", "0")
    assert code == 1
    assert {"wrong": "(wrong_key)", "missing": "(master_key_missing)"}[key] in said
    assert process.running_pid(home) is None
    assert home.master_key.exists() == (key == "wrong")


def test_another_port_than_the_one_asked_for_is_said(cli: Cli) -> None:
    _, _, notes = cli("up", "--port", "4100")
    assert "Port 4100 is taken by another program" in notes


def test_upgrade_restarts_it_only_if_the_program_has_changed(cli: Cli, home: Home) -> None:
    cli("up", "--port", "0")
    pid = process.running_pid(home)
    assert "nothing changed" in cli("up", "--upgrade", "--port", "0")[1]
    (home.run / "program").write_text("an older one")
    assert "The program has changed" in cli("up", "--upgrade", "--port", "0")[2]
    assert process.running_pid(home) not in {None, pid}


def test_down_ends_it_and_says_if_there_was_nothing_to_end(cli: Cli, home: Home) -> None:
    cli("up", "--port", "0")
    assert cli("down")[:2] == (0, "Stopped\n")
    assert process.running_pid(home) is None
    assert cli("down")[:2] == (0, "It was not running\n")


def test_status_of_what_is_down_says_so_with_its_exit_code(cli: Cli, home: Home) -> None:
    code, said, _ = cli("status")
    assert code == 3
    assert said == f"Not running (home {home.root}). `orchestrator up` starts it\n"


def test_a_start_that_fails_shows_the_end_of_the_log(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    code, _, said = cli("up")
    assert code == 3
    assert "the disk is full" in said
    assert "(start_failed)" in said


def test_a_start_that_takes_long_says_so(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LONG", 0.01)
    _, _, notes = cli("up", "--port", "0")
    assert f"Still starting after 0 s; {home.root / 'platform.log'} says what it does" in notes


@pytest.mark.parametrize(
    ("variable", "value"), [("ORCHESTRATOR_DATABASE", "mysql://host/name"), ("ORCHESTRATOR_LOG_LEVEL", "LOUD")]
)
def test_a_wrong_setting_is_refused_by_name_before_anything_starts(
    cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, _, said = cli("up", "--port", "0")
    assert (code, process.running_pid(home)) == (1, None)
    assert f"error: {variable}: " in said
    assert "(settings_invalid)" in said


def test_a_database_that_nobody_serves_is_said_before_anything_starts(
    cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.0)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE", "postgresql+psycopg://me:hunter22@127.0.0.1:1/agents")
    code, _, said = cli("up", "--port", "0")
    assert (code, process.running_pid(home)) == (3, None)
    assert "The database postgresql+psycopg://me:***@127.0.0.1:1/agents takes no connection: " in said
    assert "(database_unreachable)" in said
    assert "correct ORCHESTRATOR_DATABASE" in said


def test_port_2024_is_never_used(cli: Cli) -> None:
    code, _, said = cli("up", "--port", "2024")
    assert code == 1
    assert "(port_refused)" in said


def test_what_has_a_pid_file_but_no_lock_is_not_running(home: Home) -> None:
    home.make()
    home.supervisor_pid.write_text("1\n")
    assert process.running_pid(home) is None


def test_a_database_in_use_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    cli("up", "--port", "0")
    code, _, said = cli("restore", str(tmp_path / "any.db"), "--yes")
    assert code == 1
    assert "(still_running)" in said


def test_a_certificate_that_has_expired_is_refused_before_anything_starts(cli: Cli, home: Home, tmp_path: Path) -> None:
    files = Authority.create(tmp_path).issue(
        "127.0.0.1", start=datetime(2020, 1, 1, tzinfo=UTC), end=datetime(2021, 1, 1, tzinfo=UTC)
    )
    code, _, said = cli("up", "--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    assert (code, process.running_pid(home)) == (1, None)
    assert "ORCHESTRATOR_TLS_CERTIFICATE: it has expired on 2021-01-01" in said
    assert "(tls_invalid)" in said


def test_an_address_that_others_reach_needs_a_certificate(cli: Cli, home: Home) -> None:
    code, _, said = cli("up", "--host", "192.0.2.1")
    assert (code, process.running_pid(home)) == (1, None)
    assert "(tls_required)" in said
