"""Instances of a supervisor that is started as whoever runs the tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.sandbox.cells import Keeper, Supervisor, keeper


@pytest.fixture(scope="module")
def jail() -> Iterator[Keeper]:
    with keeper("root" if os.geteuid() == 0 else "user") as running:
        yield running


@pytest.fixture
async def supervisor(jail: Keeper) -> AsyncIterator[Supervisor]:
    async with jail.connect() as connected:
        yield connected
