"""The first organization and its owner's token, on a real database."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_api.authorization import Credentials
from control_api.organizations import owner
from control_api.store.database import Database, open_database
from control_api.store.keys import MasterKey, OrganizationKeys
from control_api.store.migrate import migrate
from tests.fakes.manual_clock import ManualClock

CLOCK = ManualClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url, backups=tmp_path / "backups", now=CLOCK.now())
    opened = open_database(url)
    yield opened
    await opened.close()


async def ensure(database: Database, token: str) -> owner.Organization:
    keys = OrganizationKeys(MasterKey(bytes(32)))
    return await database.write(lambda session: owner.ensure(session, keys, token=token, now=CLOCK.now()))


async def credentials(database: Database) -> Credentials:
    return Credentials(await database.read(owner.all_credentials))


def test_the_token_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "owner-token"
    token = owner.read_token(path)
    assert token.startswith("orc_")
    assert owner.read_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_first_start_makes_an_organization_whose_owner_may_do_everything(database: Database) -> None:
    organization = await ensure(database, "orc_one")
    found = (await credentials(database)).find("orc_one")
    assert found is not None
    assert found.organization == organization.id
    assert found.may("agents:write")


async def test_a_second_start_changes_nothing(database: Database) -> None:
    first = await ensure(database, "orc_one")
    before = (await credentials(database)).all()
    assert await ensure(database, "orc_one") == first
    assert (await credentials(database)).all() == before


async def test_a_new_token_makes_the_one_before_worthless(database: Database) -> None:
    await ensure(database, "orc_one")
    await ensure(database, "orc_two")
    found = await credentials(database)
    assert found.find("orc_one") is None
    assert found.find("orc_two") is not None
