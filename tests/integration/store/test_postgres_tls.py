"""A PostgreSQL that speaks TLS: verified by the settings in its URL, and refused if it is somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from control_api.store import reachable
from control_api.store.backup import back_up
from control_api.store.migrate import migrate
from control_api.store.reachable import wait_until_reachable
from orchestrator_runtime.contract.errors import Unavailable
from tests.fakes.certificates import Authority
from tests.fakes.keys import INSTALLATION
from tests.integration.postgres import fresh_database, postgres_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[str]:
    with postgres_server(tls=authority.issue("localhost")) as url:
        yield url


def verified(server: str, authority: Authority, *, host: str) -> str:
    return f"{server.replace('127.0.0.1', host)}?sslmode=verify-full&sslrootcert={authority.file}"


def test_a_verified_connection_is_encrypted_migrated_and_backed_up(
    server: str, authority: Authority, tmp_path: Path
) -> None:
    url = verified(fresh_database(server, "verified"), authority, host="localhost")
    wait_until_reachable(url)
    migrate(url, backups=tmp_path, now=NOW)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row is not None
    assert row[0] is True
    assert row[1] in {"TLSv1.2", "TLSv1.3"}
    assert back_up(url, tmp_path, installation=INSTALLATION, now=NOW).stat().st_size > 0


def test_a_server_under_another_name_is_refused_before_anything_starts(
    server: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.0)
    with pytest.raises(Unavailable, match="does not match host name") as caught:
        wait_until_reachable(verified(server, authority, host="127.0.0.1"))
    assert caught.value.code == "database_unreachable"


def test_a_server_of_another_authority_is_refused(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.0)
    with pytest.raises(Unavailable, match="certificate verify failed"):
        wait_until_reachable(verified(server, Authority.create(tmp_path), host="localhost"))
