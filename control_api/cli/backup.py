"""`backup` and `restore`: the database and the keys, as one file."""

from __future__ import annotations

import click

from control_api.cli.command import Cli, output_option, pass_cli


@click.command()
@output_option
@pass_cli
def backup(cli: Cli) -> None:
    """Write a backup while the platform goes on working."""
    made = cli.connect().post("/backups")
    cli.terminal.data(made, f"Wrote {made['path']}")
