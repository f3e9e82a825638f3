"""Databases of their own, with a master key in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_api.encryption.files import FileKeys


@pytest.fixture
def masters(tmp_path: Path) -> FileKeys:
    files = FileKeys(tmp_path / "master.key")
    files.create()
    return files
