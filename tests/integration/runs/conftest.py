from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.integration.journal.world import world
from tests.integration.runs.world import Api, serving


@pytest_asyncio.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:  # not tmp_path: Unix sockets need short paths
        async with world(database_url, Path(folder) / "j.sock") as journal, serving(journal, Path(folder)) as api:
            yield api
