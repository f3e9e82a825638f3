"""The README, the guides and the READMEs of templates and samples, executed as a newcomer would: every block, in order.

Each document gets a folder that looks like the checkout, with an installation of its own, which `orchestrator up` has
started. A block that cannot be executed says why (`<!-- not run: reason -->`), and is reported as skipped with it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.platform import Installation
from tests.fakes.model_server import model_server
from tests.unit.docs.documents import EXECUTED, REPOSITORY, SAMPLE_READMES, TEMPLATE_READMES, Block, shell

LINKED = (".venv", "functions", "samples", "docs")
MOST_SECONDS = 600
TYPED = "a-key-that-opens-nothing\n"  # into a prompt
OF_THE_READER = {"sales.csv": "region,year,sales\nnorth,2025,10\nnorth,2026,15\nsouth,2025,20\nsouth,2026,18\n"}
"""Files that the reader is asked to have."""
AGENT_READMES = (*TEMPLATE_READMES, *SAMPLE_READMES)
ALL_BLOCKS = [block for document in (*EXECUTED, *AGENT_READMES) for block in shell(document)]


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
        "ORCHESTRATOR_PORT": "0",  # several of them are executed at the same time
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        input=TYPED,
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
        root = installed.home.parent
        before = set(root.iterdir())
        execute(shell(document), folder=root, home=installed.home)
        made = [path.name + "/" * path.is_dir() for path in set(root.iterdir()) - before]
    for path in made:  # nothing that a newcomer types makes the checkout look changed
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=REPOSITORY, check=False)
        assert ignored.returncode == 0, f"{path} is not in .gitignore"


@pytest.fixture(scope="module")
def with_model() -> Iterator[tuple[Installation, str]]:
    """An installation whose agents reach a model, and that model's base URL."""
    with model_server() as model, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATOR_EGRESS_ALLOW", model.url.removeprefix("http://"))
        with checkout() as installed:
            yield installed, model.openai_url


@pytest.mark.xdist_group("agents' READMEs")
@pytest.mark.parametrize("document", AGENT_READMES, ids=name)
def test_what_the_readme_of_an_agent_tells_to_type_works(
    document: Path, with_model: tuple[Installation, str], tmp_path: Path
) -> None:
    installed, base_url = with_model
    folder = tmp_path / document.parent.name
    if document in TEMPLATE_READMES:
        installed.cli("new", f"new-{folder.name}", "--template", folder.name, "--into", str(folder))
        assert f"new-{folder.name}" in (folder / "README.md").read_text()
    else:
        shutil.copytree(document.parent, folder)
    for path, text in OF_THE_READER.items():
        (folder / path).write_text(text)
    use_model(folder / "agent.yaml", base_url)
    commit_all(folder)
    blocks = [dataclasses.replace(block, document=document) for block in shell(folder / "README.md")]
    execute(blocks, folder=folder, home=installed.home)


def use_model(manifest: Path, base_url: str) -> None:
    """Name a model on this machine, as docs/guides/writing-agents.md says it."""
    local = f"\\1OPENAI_BASE_URL: {base_url}"
    manifest.write_text(re.sub(r"^( +)OPENAI_BASE_URL: .*", local, manifest.read_text(), flags=re.MULTILINE))


def commit_all(folder: Path) -> None:
    """Make the folder a Git repository with one commit, as the reader's is."""
    who = ("-c", "user.name=Reader", "-c", "user.email=reader@example.org")
    for arguments in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "feat: begin")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


@pytest.mark.parametrize("block", [block for block in ALL_BLOCKS if block.not_run], ids=lambda block: block.place)
def test_what_is_not_executed_says_why(block: Block) -> None:
    pytest.skip(str(block.not_run))
