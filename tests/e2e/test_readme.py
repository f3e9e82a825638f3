"""The README, the guides and the templates' READMEs, executed as a newcomer would: every block, in order.

Each document gets a folder that looks like the checkout, with an installation of its own, which `orchestrator up` has
started. A block that cannot be executed says why (`<!-- not run: reason -->`), and is reported as skipped with it.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.platform import Installation
from tests.unit.docs.documents import EXECUTED, REPOSITORY, TEMPLATE_READMES, Block, shell

LINKED = (".venv", "functions", "samples", "docs")
MOST_SECONDS = 600
ALL_BLOCKS = [block for document in (*EXECUTED, *TEMPLATE_READMES) for block in shell(document)]


def name(document: Path) -> str:
    return str(document.relative_to(REPOSITORY))


@contextmanager
def checkout() -> Iterator[Installation]:
    """A running platform whose home is in a folder that looks like the checkout."""
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        root = Path(folder)
        for linked in LINKED:
            if (REPOSITORY / linked).exists():
                (root / linked).symlink_to(REPOSITORY / linked)
        installed = Installation(root / ".orchestrator")
        installed.cli("up", "--port", "0")
        try:
            yield installed
        finally:
            installed.cli("down")


def execute(blocks: list[Block], *, folder: Path, home: Path) -> None:
    """Type the blocks into one shell; raises `AssertionError` with all that was said if one fails."""
    script = "".join(f"echo '== {block.place}'\n{block.text}" for block in blocks if block.not_run is None)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "ORCHESTRATOR_HOME": str(home),
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=MOST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"it ended with {done.returncode}:\n{done.stdout[-8000:]}"


@pytest.mark.parametrize("document", EXECUTED, ids=name)
def test_what_the_document_tells_to_type_works(document: Path) -> None:
    with checkout() as installed:
        execute(shell(document), folder=installed.home.parent, home=installed.home)


@pytest.mark.parametrize("document", TEMPLATE_READMES, ids=name)
def test_what_a_template_s_readme_tells_to_type_works(document: Path, platform: Installation, tmp_path: Path) -> None:
    template = document.parent.name
    made = f"new-{template}"
    platform.cli("new", made, "--template", template, cwd=tmp_path)
    copied = tmp_path / made / "README.md"
    assert made in copied.read_text()
    blocks = [dataclasses.replace(block, document=document) for block in shell(copied)]
    execute(blocks, folder=tmp_path / made, home=platform.home)


@pytest.mark.parametrize("block", [block for block in ALL_BLOCKS if block.not_run], ids=lambda block: block.place)
def test_what_is_not_executed_says_why(block: Block) -> None:
    pytest.skip(str(block.not_run))
