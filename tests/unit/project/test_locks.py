"""Lock files name versions and hashes, never where a package came from; the project names no machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
LINE = re.compile(r"^([a-z0-9-]+(\[[a-z,]+\])?==\S+( ; [^/\\]+)?|    --hash=sha256:[0-9a-f]{64})( \\)?$")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_names_versions_and_hashes_only(lock: str) -> None:
    wrong = [line for line in (REPOSITORY / lock).read_text().splitlines() if not LINE.match(line)]
    assert wrong == []


def test_there_is_no_lock_that_names_its_sources() -> None:
    assert not (REPOSITORY / "uv.lock").exists()
