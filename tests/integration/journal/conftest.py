from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.integration.journal.world import World, world


@pytest_asyncio.fixture
async def journal(database_url: str) -> AsyncIterator[World]:
    """A journal with its socket, on each kind of database."""
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:  # not tmp_path: Unix sockets need short paths
        async with world(database_url, Path(folder) / "j.sock") as running:
            yield running
