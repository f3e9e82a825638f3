"""The journals that must behave the same: the fake, and the real one on each database."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.journal.subjects import FakeSubject, RealSubject, Subject
from tests.fakes.journal_server import FakeJournal
from tests.integration.conftest import postgres_template, sqlite_template
from tests.integration.journal.world import world

__all__ = ["postgres_template", "sqlite_template", "subject"]


@pytest_asyncio.fixture(params=["fake", "sqlite", "postgresql"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:  # not tmp_path: Unix sockets need short paths
        path = Path(folder) / "j.sock"
        if request.param == "fake":
            async with FakeJournal(path) as fake:
                yield FakeSubject(fake)
            return
        template = request.getfixturevalue("sqlite_template" if request.param == "sqlite" else "postgres_template")
        async with world(template(), path) as journal:
            yield RealSubject(journal)
