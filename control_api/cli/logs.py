"""`logs`: what an agent's instances wrote, of a whole agent or of one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from control_api.cli.client import Client, segment
from control_api.cli.command import Cli, agent_argument, output_option, pass_cli
from control_api.cli.traffic import revision_name


@click.command()
@agent_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--revision", metavar="REVISION", help="Only this revision's, by number or name.")
@click.option("--run", metavar="ID", help="Only what was written while working on this run.")
@output_option
@pass_cli
def logs(cli: Cli, name: str, follow: bool, revision: str | None, run: str | None) -> None:
    """Print what an agent has written to its log."""
    path = f"/runs/{segment(run)}/logs" if run else f"/agents/{segment(name)}/logs"
    chosen = revision_name(name, revision) if revision else None
    for line in log_lines(cli.connect(), path, follow=follow, revision=chosen):
        cli.terminal.data(line, log_text(line))


def log_lines(client: Client, path: str, *, follow: bool, revision: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines, oldest first: {at, instance, stream, run, line}."""
    for event in client.follow(path, revision=revision, follow=True if follow else None):
        value = event.value()
        if isinstance(value, dict) and "line" in value:
            yield value


def log_text(line: dict[str, Any]) -> str:
    """One line for people: the time of day in UTC, the instance's short name, the text."""
    return f"{line['at'][11:19]}  {str(line.get('instance', ''))[-8:]}  {line.get('line', '')}".rstrip()
