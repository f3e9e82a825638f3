"""The first organization and its owner's token, on a real database."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from control_api.authorization import Credentials
from control_api.organizations import credentials as computed
from control_api.organizations import owner
from control_api.organizations.repository import Organization
from control_api.store.database import Database, open_database
from control_api.store.migrate import migrate
from domain.roles import PERMISSIONS, Role
from tests.fakes.keys import INSTALLATION, organization_keys
from tests.fakes.manual_clock import ManualClock
from tests.integration.store.older import at_first

CLOCK = ManualClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url, backups=tmp_path / "backups", now=CLOCK.now())
    opened = open_database(url)
    yield opened
    await opened.close()


async def ensure(database: Database, token: str) -> Organization:
    keys = organization_keys(CLOCK)
    return await database.write(lambda session: owner.ensure(session, keys, token=token, now=CLOCK.now()))


async def change(database: Database, statement: str) -> None:
    await database.write(lambda session: session.execute(text(statement)))


async def credentials(database: Database) -> Credentials:
    return Credentials(await database.read(computed.load))


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


async def test_the_token_is_of_a_person_who_is_owner_and_may_do_all_that_there_is(database: Database) -> None:
    await ensure(database, "orc_one")
    found = (await credentials(database)).find("orc_one")
    assert found is not None
    assert (found.role, found.permissions) == (Role.OWNER, PERMISSIONS)
    assert found.name == f"person:{found.principal}"


async def test_when_its_owner_has_left_the_next_start_gives_the_token_to_another(database: Database) -> None:
    await ensure(database, "orc_one")
    before = (await credentials(database)).find("orc_one")
    assert before is not None
    await change(database, "INSERT INTO people (id, name, created_at) VALUES ('p-2', 'Bob', 0)")
    await change(
        database,
        "INSERT INTO members (organization, person, role, created_at) "
        "SELECT organization, 'p-2', 'owner', 1 FROM members",
    )
    await change(database, f"DELETE FROM members WHERE person = '{before.principal}'")
    await change(database, "UPDATE credentials SET revoked_at = 1")
    assert (await credentials(database)).find("orc_one") is None
    await ensure(database, "orc_one")
    after = (await credentials(database)).find("orc_one")
    assert after is not None
    assert after.principal == "p-2"


async def test_the_first_start_after_the_migration_replaces_the_owners_key_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    at_first(url)
    migrate(url, backups=tmp_path, now=CLOCK.now(), seal=lambda: INSTALLATION)
    database = open_database(url)
    await ensure(database, "orc_one")
    found = await credentials(database)
    await database.close()
    assert found.find("orc_one") is not None
    kept = {one.id: one.permissions for one in found.all()}
    assert "c-1" not in kept
    assert kept["c-2"] == {"runs:read", "self:read"}
