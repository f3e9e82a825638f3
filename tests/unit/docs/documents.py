"""What the documentation tells people to type: its `sh` blocks, and every `orchestrator` command that it names.

A block is executed by tests/e2e/test_readme.py unless the line before it is `<!-- not run: reason -->`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TEMPLATES = REPOSITORY / "functions" / "orchestrator_runtime" / "templates"
GUIDES = REPOSITORY / "docs" / "guides"

EXECUTED = (REPOSITORY / "README.md", *sorted(GUIDES.glob("*.md")))
"""Documents whose blocks are executed in order, each in an installation of its own."""
TEMPLATE_READMES = tuple(sorted(TEMPLATES.glob("*/README.md")))
SAMPLE_READMES = tuple(sorted((REPOSITORY / "samples").glob("*/README.md")))
FOLDERS = ("builders", "control_api", "docs", "domain", "functions", "local", "samples", "scripts", "tests")
ALL = tuple(sorted([*REPOSITORY.glob("*.md"), *(path for one in FOLDERS for path in (REPOSITORY / one).rglob("*.md"))]))

FENCE = re.compile(r"^```(\w*)$")
NOT_RUN = re.compile(r"^<!-- not run: (.+) -->$")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|[|;&(]\s*|\bdo\s+)orchestrator((?:[^|;&()\n\\]|\\\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `line` is that of its fence; `not_run` says why it is not executed, if it is not."""

    document: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(REPOSITORY)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    body: list[str] = []
    before = ""
    for number, line in enumerate(document.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, body = (number, fence[1]), []
        elif opened is not None and line == "```":
            reason = NOT_RUN.match(before)
            found.append(Block(document, *opened, "\n".join(body) + "\n", reason[1] if reason else None))
            opened = None
        elif opened is not None:
            body.append(line)
        if opened is None:
            before = line
    return found


def shell(document: Path) -> list[Block]:
    return [block for block in blocks(document) if block.language == "sh"]


@dataclass(frozen=True, slots=True)
class Named:
    """A command that a document names: the words after `orchestrator`."""

    document: Path
    words: tuple[str, ...]


def named_commands(document: Path) -> Iterator[Named]:
    """The `orchestrator` commands in code spans and `sh` blocks."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    texts = [block.text for block in shell(document)]
    texts += [span for span in CODE_SPAN.findall(prose) if span.startswith("orchestrator ")]
    for text in texts:
        for match in COMMAND.finditer(text):
            yield Named(document, tuple(_words(match[1])))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quotation that the pattern cut: its beginning is all that matters
        return text.split()
