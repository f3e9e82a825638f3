"""What a start does with keys: the right one is found, a wrong or missing one is told, and nothing is lost."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from control_api.bootstrap import prepare
from control_api.encryption.environment import EnvironmentKeys
from control_api.encryption.files import FileKeys
from control_api.encryption.opening import check, open_keys
from control_api.encryption.sources import master_keys
from control_api.settings import Encryption, Settings
from control_api.store.engines import open_engine
from control_api.store.tables import data_keys, installation_keys, organizations
from orchestrator_runtime.contract.errors import Conflict
from tests.fakes.manual_clock import START, ManualClock
from tests.fakes.vault_server import vault
from tests.integration.encryption.rotating import ORGANIZATION, started
from tests.integration.encryption.values import expected, fill, read

CLOCK = ManualClock()


async def fill_one(url: str, masters: FileKeys) -> None:
    async with started(url, masters) as server:
        await server.database.write(lambda session: fill(session, server.keys, ORGANIZATION))


async def everything_is_there(url: str, settings: Settings) -> None:
    async with started(url, master_keys(settings, is_new=False)) as server:
        wanted = await server.database.read(expected)
        assert await server.database.read(lambda session: read(session, server.keys, ORGANIZATION)) == wanted


def settings_of(home: Path, url: str, **encryption: object) -> Settings:
    return Settings(home=home, database=url, encryption=Encryption.model_validate(encryption))


async def test_a_wrong_key_is_refused_and_the_right_one_opens_again(
    database_url: str, masters: FileKeys, tmp_path: Path
) -> None:
    await fill_one(database_url, masters)
    file = tmp_path / "master.key"
    right = file.read_bytes()
    file.write_bytes(bytes(32))
    settings = settings_of(tmp_path, database_url)
    for start in (lambda: prepare(settings, clock=CLOCK), lambda: check(settings)):
        with pytest.raises(Conflict) as refused:
            start()
        assert refused.value.code == "wrong_key"
    file.write_bytes(right)
    await everything_is_there(database_url, settings)


async def test_a_missing_key_is_refused_and_none_is_made(database_url: str, masters: FileKeys, tmp_path: Path) -> None:
    await fill_one(database_url, masters)
    file = tmp_path / "master.key"
    kept = file.rename(tmp_path / "kept")
    settings = settings_of(tmp_path, database_url)
    for start in (lambda: prepare(settings, clock=CLOCK), lambda: check(settings)):
        with pytest.raises(Conflict) as refused:
            start()
        assert refused.value.code == "master_key_missing"
    assert not file.exists()
    kept.rename(file)
    await everything_is_there(database_url, settings)


def test_a_new_installation_makes_its_key(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    prepare(settings, clock=CLOCK)
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    check(settings)


async def test_the_master_key_moves_from_a_file_to_the_environment_to_vault_and_back(
    database_url: str, masters: FileKeys, tmp_path: Path
) -> None:
    await fill_one(database_url, masters)
    first = masters.current().id
    key = base64.b64encode(os.urandom(32)).decode()
    moved = settings_of(tmp_path, database_url, source="environment", key=key)
    await everything_is_there(database_url, moved)
    with vault() as running:
        values = {"source": "vault", "previous_keys": key}
        in_vault = settings_of(tmp_path, database_url, **values).model_copy(update={"vault": running.settings})
        await everything_is_there(database_url, in_vault)
        back = settings_of(tmp_path, database_url).model_copy(update={"vault": running.settings})
        await everything_is_there(database_url, back)
    check(settings_of(tmp_path, database_url))
    assert stored_master(database_url) == first


async def test_a_key_in_the_environment_is_rotated_by_a_start_with_another_one(
    database_url: str, tmp_path: Path
) -> None:
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    before = EnvironmentKeys(Encryption.model_validate({"key": old}))
    async with started(database_url, before) as server:
        await server.database.write(lambda session: fill(session, server.keys, ORGANIZATION))
    await everything_is_there(
        database_url, settings_of(tmp_path, database_url, source="environment", key=new, previous_keys=old)
    )
    await everything_is_there(database_url, settings_of(tmp_path, database_url, source="environment", key=new))


async def test_a_database_from_before_installation_keys_is_wrapped_anew_by_the_first_start(
    database_url: str, masters: FileKeys, tmp_path: Path
) -> None:
    wrapped = masters.current().wrap(b"o" * 32, ORGANIZATION)
    engine = open_engine(database_url, writing=True)
    with engine.begin() as connection:
        connection.execute(insert(organizations).values(id=ORGANIZATION, name="o", created_at=START))
        row = {"organization": ORGANIZATION, "version": 1, "wrapped": wrapped, "installation": 0, "created_at": START}
        connection.execute(insert(data_keys).values(row))
    engine.dispose()
    right = (tmp_path / "master.key").read_bytes()
    (tmp_path / "master.key").write_bytes(bytes(32))
    with pytest.raises(Conflict) as refused:
        open_keys(database_url, masters, clock=CLOCK)
    assert refused.value.code == "wrong_key"
    (tmp_path / "master.key").write_bytes(right)
    for _ in range(2):
        async with started(database_url, masters) as server:
            stored = await server.database.read(lambda session: session.execute(select(data_keys)).one())
            assert stored.installation == 1
            assert bytes(stored.wrapped) != wrapped
            assert server.keys.installation.version == 1


def stored_master(url: str) -> str:
    engine = open_engine(url, writing=False)
    with engine.connect() as connection:
        query = select(installation_keys.c.master).where(installation_keys.c.name == "installation")
        master: str = connection.execute(query).scalar_one()
    engine.dispose()
    return master
