"""Each test of this folder runs twice: with a supervisor started as root, and with one started as an ordinary user."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.sandbox.cells import Cell, Keeper, Supervisor, keeper


@pytest.fixture(scope="session", params=["root", "user"])
def jail(request: pytest.FixtureRequest) -> Iterator[Keeper]:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user, who cannot start a supervisor as root")
    with keeper(request.param) as running:
        yield running


@pytest.fixture
async def supervisor(jail: Keeper) -> AsyncIterator[Supervisor]:
    async with jail.connect() as connected:
        yield connected


@pytest.fixture
async def cell(supervisor: Supervisor) -> Cell:
    """An instance of the agent `one`."""
    return await supervisor.start()
