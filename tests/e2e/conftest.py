"""One installation per test session (and xdist worker) for tests that do not break it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.platform import Installation, installation


@pytest.fixture(scope="session")
def platform() -> Iterator[Installation]:
    # Not tmp_path: Unix sockets need short paths.
    with tempfile.TemporaryDirectory(prefix="orc-") as folder, installation(Path(folder) / "home") as running:
        yield running


@pytest.fixture
def own_platform() -> Iterator[Installation]:
    """For a test that kills parts of it."""
    with tempfile.TemporaryDirectory(prefix="orc-") as folder, installation(Path(folder) / "home") as running:
        yield running
