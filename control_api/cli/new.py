"""`new`: a folder with a starter agent, copied from the runtime's templates."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click

import orchestrator_runtime
from control_api.cli.command import Cli, output_option, pass_cli
from orchestrator_runtime.contract.errors import BadInput, Conflict

TEMPLATES = Path(orchestrator_runtime.__file__).parent / "templates"
NAMES = ("plain", "langgraph", "crewai", "agno")
NAMED_FILES = ("agent.yaml", "pyproject.toml", "README.md")
"""Files of a template in which its own name stands for the new one's."""


@click.command()
@click.argument("name")
@click.option(
    "--template", "-t", type=click.Choice(NAMES), default="plain", show_default=True, help="What to start from."
)
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FOLDER", help="The folder to make; by default ./NAME."
)
@output_option
@pass_cli
def new(cli: Cli, name: str, template: str, into: Path | None) -> None:
    """Make a folder with a starter agent called NAME.

    Example: `orchestrator new triage --template langgraph`
    """
    from domain.manifest import NAME  # pydantic is slow to import, and only this command needs the rule

    if not re.fullmatch(NAME, name):
        raise BadInput(
            f"{name!r} is no name of an agent",
            code="name_invalid",
            hint="Use up to 40 lower case letters, digits and dashes, beginning with a letter.",
        )
    folder = into or Path(name)
    try:
        copy_template(template, folder, name=name)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made: {error.strerror or error}",
            code="folder_unwritable",
            hint="Choose another folder with --into.",
        ) from error
    next_steps = f"cd {folder} && orchestrator deploy"
    cli.terminal.data(
        {"name": name, "template": template, "folder": str(folder.absolute())},
        f"Made {folder} from the template {template}. Next:\n  {next_steps}\n  and see {folder}/README.md",
    )


def copy_template(template: str, folder: Path, *, name: str) -> None:
    """Copy a template into `folder` under a new name. Raises `Conflict` if something is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(
            f"{folder} exists and is not empty",
            code="folder_not_empty",
            hint="Choose another name, or another folder with --into.",
        )
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "tests", "__init__.py")
    shutil.copytree(TEMPLATES / template, folder, ignore=ignore, dirs_exist_ok=True)
    old = template_name(template)
    for path in (folder / file for file in NAMED_FILES):
        if path.exists():
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", name, text), encoding="utf-8")


def template_name(template: str) -> str:
    """The name in the template's own manifest."""
    text = (TEMPLATES / template / "agent.yaml").read_text(encoding="utf-8")
    found = re.search(r"^name:\s*(\S+)", text, re.MULTILINE)
    assert found is not None, f"the template {template} has no name"
    return found[1]
