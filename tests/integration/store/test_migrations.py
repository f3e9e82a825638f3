"""The migrations make what the tables say, from nothing, and refuse a newer database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from control_api.organizations.credentials import load
from control_api.store import transitions
from control_api.store.database import ReadSession
from control_api.store.engines import open_engine
from control_api.store.migrate import migrate
from control_api.store.tables import PARTITIONED, agents, members, metadata
from domain.roles import PERMISSIONS
from orchestrator_runtime.contract.errors import Conflict
from tests.fakes.keys import INSTALLATION
from tests.integration.postgres import fresh_database
from tests.integration.store.older import at_first

first = import_module("control_api.store.migrations.versions.0001_first")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ours(connection: Connection) -> set[str]:
    weekly = {table.name for table in PARTITIONED} if connection.dialect.name == "sqlite" else set()
    return set(metadata.tables) - weekly


def test_the_migrated_database_has_the_tables_that_the_code_knows(database_url: str) -> None:
    engine = open_engine(database_url, writing=True)
    with engine.connect() as connection:
        wanted = ours(connection)
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _, name, kind, *__: kind != "table" or name in wanted,
            },
        )
        differences = compare_metadata(context, metadata)
        assert differences == []
        for name in wanted:
            found = {constraint["name"] for constraint in inspect(connection).get_check_constraints(name)}
            stated = {one.name for one in metadata.tables[name].constraints if isinstance(one, CheckConstraint)}
            assert found == {str(constraint) for constraint in stated}, name
    engine.dispose()


def test_the_guarded_transitions_are_those_of_the_state_machines() -> None:
    assert first.GUARDED == transitions.GUARDED


def test_an_illegal_transition_is_refused_by_the_database(database_url: str) -> None:
    engine = open_engine(database_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO organizations VALUES ('o', 'o', NULL, 0)"))
        connection.execute(text("INSERT INTO agents VALUES ('a', 'o', 'a', 0, 0, NULL, NULL)"))
        connection.execute(
            text(
                "INSERT INTO builds (id, organization, agent, version, state, created_at) "
                "VALUES ('b', 'o', 'a', 'v', 'succeeded', 0)"
            )
        )
    with pytest.raises(DBAPIError, match="illegal transition of builds"), engine.begin() as connection:
        connection.execute(text("UPDATE builds SET state = 'running'"))
    engine.dispose()


def test_a_second_start_changes_nothing(database_url: str, tmp_path: Path) -> None:
    assert migrate(database_url, backups=tmp_path, now=NOW) is None
    assert list(tmp_path.iterdir()) == []


def test_a_newer_database_is_refused_and_left_alone(database_url: str, tmp_path: Path) -> None:
    engine = open_engine(database_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Conflict) as refused:
        migrate(database_url, backups=tmp_path, now=NOW)
    assert refused.value.code == "database_newer"
    assert list(tmp_path.iterdir()) == []


def test_what_there_was_belongs_to_the_owner_of_its_organization(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    at_first(url)
    check_owned(url, tmp_path)


def test_what_there_was_on_postgresql_belongs_to_the_owner_of_its_organization(
    postgres_template: Callable[[], str], tmp_path: Path
) -> None:
    server, _, there = postgres_template().rpartition("/")
    url = fresh_database(f"{server}/{there}", f"{there}_old")
    at_first(url)
    check_owned(url, tmp_path)


def check_owned(url: str, folder: Path) -> None:
    saved = migrate(url, backups=folder, now=NOW, seal=lambda: INSTALLATION)
    assert saved is not None, "a backup is made first"
    engine = open_engine(url, writing=False)
    with engine.connect() as connection:
        [member] = connection.execute(select(members)).all()
        assert (member.organization, member.role) == ("o", "owner")
        assert connection.execute(select(agents.c.owner)).scalar_one() == member.person
        found = {one.id: one for one in load(ReadSession(connection))}
    engine.dispose()
    assert {one.principal for one in found.values()} == {member.person}
    assert found["c-1"].permissions == PERMISSIONS
    assert found["c-2"].permissions == {"runs:read", "self:read"}
