"""What the documentation names exists, and what exists is in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import click
import pytest

from builders import manifest
from control_api.cli.main import orchestrator
from control_api.settings import PREFIX, Group, Settings
from tests.unit.docs.documents import (
    ALL,
    CODE_SPAN,
    EXECUTED,
    REPOSITORY,
    SAMPLE_READMES,
    TEMPLATE_READMES,
    blocks,
    named_commands,
)

SOURCES = ("builders", "control_api", "domain", "local", "functions", "tests", "scripts")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
VARIABLE = re.compile(rf"\b{PREFIX}[A-Z][A-Z_]*[A-Z]\b")
SNAKE = re.compile(r"[a-z]+(?:_[a-z]+)+")


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@cache
def source() -> str:
    files = (path for folder in SOURCES for path in (REPOSITORY / folder).rglob("*.py"))
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("document", ALL, ids=name)
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    for named in named_commands(document):
        _, unknown = resolve(named.words)
        assert unknown is None, f"orchestrator {' '.join(named.words)}: there is no {unknown}"


def resolve(words: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The command that a command line is, and what of its commands and options there is not."""
    command: click.Command = orchestrator
    path: tuple[str, ...] = ()
    known = options(command)
    following = iter(words)
    for word in following:
        if word.startswith("-") and word != "-":
            option = known.get(word.partition("=")[0])
            if option is None:
                return path, word
            if not option.is_flag and "=" not in word:
                next(following, None)
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                return path, word
            command, path = inner, (*path, word)
            known |= options(command)
    return path, None


def options(command: click.Command) -> dict[str, click.Option]:
    help_option = click.Option(["--help", "-h"], is_flag=True)
    of_command = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {spelling: option for option in (help_option, *of_command) for spelling in option.opts}


def all_commands(command: click.Command = orchestrator, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that does something by itself."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for following in command.list_commands(context):
            inner = command.get_command(context, following)
            assert inner is not None
            yield from all_commands(inner, (*path, following))
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path


@pytest.mark.parametrize("command", list(all_commands()), ids=" ".join)
def test_every_command_is_in_the_readme_or_a_guide(command: tuple[str, ...]) -> None:
    assert command in {resolve(named.words)[0] for document in EXECUTED for named in named_commands(document)}


@pytest.mark.parametrize("document", ALL, ids=name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", ALL, ids=name)
def test_every_variable_that_a_document_names_is_read_by_the_code(document: Path) -> None:
    known = set(VARIABLE.findall(source()))
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        grouped = isinstance(kind, type) and issubclass(kind, Group)
        names = [f"{group}_{inner}" for inner in kind.model_fields] if grouped else [group]  # type: ignore[union-attr]
        known |= {f"{PREFIX}{one}".upper() for one in names}
    assert set(VARIABLE.findall(document.read_text())) <= known


@pytest.mark.parametrize("document", ALL, ids=name)
def test_every_name_in_code_letters_is_one_of_the_code(document: Path) -> None:
    spans = CODE_SPAN.findall(re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE))
    names = {span for span in spans if SNAKE.fullmatch(span)}
    known = {path.name for path in REPOSITORY.iterdir()}
    assert {one for one in names if one not in known and not re.search(rf"\b{one}\b", source())} == set()


@pytest.mark.parametrize("document", [*EXECUTED, *TEMPLATE_READMES, *SAMPLE_READMES], ids=name)
def test_every_block_says_what_it_is_and_shell_is_called_sh(document: Path) -> None:
    """So that none escapes execution by another name."""
    assert {block.language for block in blocks(document)} <= {"sh", "python", "yaml", "toml", "json", "text"}


@pytest.mark.parametrize("document", [*EXECUTED, *TEMPLATE_READMES, *SAMPLE_READMES], ids=name)
def test_every_yaml_block_is_a_manifest_or_a_part_of_one(document: Path) -> None:
    for block in blocks(document):
        if block.language == "yaml":
            whole = "" if "entrypoint:" in block.text else "name: example\nentrypoint: agent:handle\n"
            manifest.read(whole + block.text)


@pytest.mark.parametrize("document", [*EXECUTED, *TEMPLATE_READMES, *SAMPLE_READMES], ids=name)
def test_every_python_block_is_python(document: Path) -> None:
    for block in blocks(document):
        if block.language == "python":
            compile(block.text, block.place, "exec")


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("runs show ID", None),
        ("--output json runs --limit 5", None),
        ("runs --limit 5 follow ID", None),
        ("fly triage", "fly"),
        ("runs fly ID", "fly"),
        ("deploy --fast", "--fast"),
    ],
)
def test_a_command_line_is_known_by_its_commands_and_options(line: str, missing: str | None) -> None:
    assert resolve(line.split())[1] == missing


def test_a_block_is_found_with_the_reason_why_it_is_not_executed(tmp_path: Path) -> None:
    document = tmp_path / "guide.md"
    document.write_text(
        "<!-- not run: it never ends -->\n```sh\norchestrator dev\n```\n\n```sh\norchestrator ls\n```\n"
    )
    assert [(block.line, block.text, block.not_run) for block in blocks(document)] == [
        (2, "orchestrator dev\n", "it never ends"),
        (6, "orchestrator ls\n", None),
    ]


def test_commands_are_found_in_spans_chains_and_substitutions(tmp_path: Path) -> None:
    document = tmp_path / "guide.md"
    document.write_text(
        "`orchestrator ls`\n```sh\ncd a && orchestrator deploy | cat\nx=$(orchestrator runs --limit 1)\n```\n"
    )
    assert {named.words for named in named_commands(document)} == {("ls",), ("deploy",), ("runs", "--limit", "1")}
