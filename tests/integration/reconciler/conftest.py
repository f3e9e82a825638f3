from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_api.settings import Deployments
from tests.integration.api.world import World, create_world


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """As for the API, but two ready revisions without traffic are too many."""
    async with create_world(database_url, tmp_path, deployments=Deployments(kept_revisions=1)) as made:
        yield made
