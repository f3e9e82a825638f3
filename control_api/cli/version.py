"""`version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import click

from control_api.cli.command import Cli, output_option, pass_cli


@click.command()
@output_option
@pass_cli
def version(cli: Cli) -> None:
    """Show the version of this program."""
    found = {"orchestrator": version_of("orchestrator"), "python": platform.python_version()}
    cli.terminal.data(found, f"orchestrator {found['orchestrator']} (Python {found['python']})")
