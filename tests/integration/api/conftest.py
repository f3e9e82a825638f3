from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.api.world import World, create_world


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The API with a reconciler at work, on each kind of database."""
    async with create_world(database_url, tmp_path) as made:
        yield made
