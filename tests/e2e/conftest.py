"""One installation per test session (and xdist worker) for tests that do not break it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.platform import Installation, installation
from tests.integration.postgres import fresh_database, postgres_server


@contextmanager
def new_installation(**environment: str) -> Iterator[Installation]:
    folder = tempfile.TemporaryDirectory(prefix="orc-")  # not tmp_path: Unix sockets need short paths
    with folder as path, installation(Path(path) / "home", **environment) as running:
        yield running


@pytest.fixture(scope="session")
def platform() -> Iterator[Installation]:
    """On SQLite, as by default."""
    with new_installation() as running:
        yield running


@pytest.fixture(scope="session")
def postgresql_platform() -> Iterator[Installation]:
    with postgres_server() as server, new_installation(ORCHESTRATOR_DATABASE=fresh_database(server, "e2e")) as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param("platform", id="sqlite", marks=pytest.mark.xdist_group("spine on SQLite")),
        pytest.param("postgresql_platform", id="postgresql", marks=pytest.mark.xdist_group("spine on PostgreSQL")),
    ]
)
def either_platform(request: pytest.FixtureRequest) -> Installation:
    """The same on both databases."""
    running: Installation = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def own_platform() -> Iterator[Installation]:
    """For a test that kills parts of it."""
    with new_installation() as running:
        yield running
