"""A database of the first version of the program: what it sealed is read, set anew and rotated by this one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text

import control_api.store.migrations
from control_api.bootstrap import Keys, prepare
from control_api.encryption.files import FileKeys
from control_api.encryption.local_key import LocalKey
from control_api.secrets.outside import OutsideValues
from control_api.secrets.service import SecretsService
from control_api.settings import Settings
from control_api.store.engines import open_engine
from control_api.store.restore import restore
from control_api.store.sealing import KEY_BYTES, NONCE, derive
from tests.fakes.manual_clock import ManualClock
from tests.integration.encryption.rotating import ORGANIZATION, Started, started
from tests.integration.store.test_backup import postgres_programs

CLOCK = ManualClock()
MASTER, DATA_KEY = b"m" * KEY_BYTES, b"o" * KEY_BYTES

__all__ = ["postgres_programs"]  # used by every test: a migration makes a backup first


def sealed(content: bytes, context: bytes) -> bytes:
    """As the first version of the program did it."""
    salt = os.urandom(16)
    key = hashlib.blake2b(salt, key=derive(DATA_KEY, b"seal"), digest_size=KEY_BYTES).digest()
    return b"\0" + salt + AESGCM(key).encrypt(NONCE, content, b"\0" + context)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """A home folder and a database as the first version left them."""
    (tmp_path / "master.key").write_bytes(MASTER)
    (tmp_path / "master.key").chmod(0o600)
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).unlink()
    engine = open_engine(database_url, writing=True)
    config = Config()
    config.set_main_option("script_location", str(Path(control_api.store.migrations.__file__).parent))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = {
            "organization": ORGANIZATION,
            "wrapped": LocalKey(MASTER).wrap(DATA_KEY, ORGANIZATION),
            "secret": sealed(b"sk-long-ago", b"secret/KEY"),
            "state": sealed(b"a state", b"session/agent/s-1"),
        }
        for statement in (
            "INSERT INTO organizations (id, name, created_at) VALUES (:organization, 'default', 0)",
            "INSERT INTO organization_keys (organization, wrapped) VALUES (:organization, :wrapped)",
            "INSERT INTO secrets (organization, name, sealed, version, created_at, updated_at) "
            "VALUES (:organization, 'KEY', :secret, 3, 0, 0)",
            "INSERT INTO sessions (organization, agent, id, state, created_at, updated_at) "
            "VALUES (:organization, 'agent', 's-1', :state, 0, 0)",
        ):
            connection.execute(text(statement), values)
    engine.dispose()
    return Settings(home=tmp_path, database=database_url)


async def secret(server: Started) -> dict[str, str]:
    outside = OutsideValues(None, clock=CLOCK)
    service = SecretsService(database=server.database, keys=server.keys, clock=CLOCK, outside=outside)
    return await service.values(ORGANIZATION, ["KEY"])


async def test_what_was_sealed_is_opened_and_sealed_anew(settings: Settings, tmp_path: Path) -> None:
    keys: Keys = prepare(settings, clock=CLOCK)
    async with started(settings.database_url, keys.masters) as server:
        assert await secret(server) == {"KEY": "sk-long-ago"}
        await server.service.rotate(ORGANIZATION)
        await server.resealing.finish(ORGANIZATION)
        assert (await server.service.look(ORGANIZATION)).former_versions == 0
        assert await secret(server) == {"KEY": "sk-long-ago"}


async def test_the_backup_of_before_the_upgrade_is_sealed_and_can_be_restored_and_upgraded(
    settings: Settings, tmp_path: Path
) -> None:
    prepare(settings, clock=CLOCK)
    [backup] = (tmp_path / "backups").iterdir()
    assert b"organization_keys" not in backup.read_bytes()
    masters = FileKeys(tmp_path / "master.key")
    restore(settings.database_url, backup, masters=masters, kept=tmp_path / "kept", now=CLOCK.now())
    keys = prepare(settings, clock=CLOCK)
    async with started(settings.database_url, keys.masters) as server:
        assert await secret(server) == {"KEY": "sk-long-ago"}
