"""Documentation that is made from code is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.docs.rendered import PARTS, REPOSITORY, rendered


@pytest.mark.parametrize("path", PARTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_is_made_from_code_is_what_the_code_says(path: Path) -> None:
    text = path.read_text()
    assert text == rendered(text, PARTS[path]), "write it anew: python -m tests.unit.docs.rendered"


def test_a_document_without_a_place_for_a_part_is_refused() -> None:
    [(_, parts), *_] = PARTS.items()
    with pytest.raises(ValueError, match="no place for run"):
        rendered("# nothing", parts)
