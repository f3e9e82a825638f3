from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from control_api.store.database import Database, open_database


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()
