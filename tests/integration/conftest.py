"""Fixtures for tests that run on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.databases import postgres_databases, sqlite_databases
from tests.integration.postgres import postgres_server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    return sqlite_databases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    with postgres_server() as server:
        yield postgres_databases(server, tmp_path_factory.mktemp("postgres"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of its own, once on each kind."""
    name = "sqlite_template" if request.param == "sqlite" else "postgres_template"
    another: Callable[[], str] = request.getfixturevalue(name)
    return another()
