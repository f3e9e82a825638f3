"""`secrets`: write-only values by name. A value is read from stdin or typed, never taken from the command line,
where every user of the machine could see it.
"""

from __future__ import annotations

import sys

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.terminal import ago, table


@click.group()
def secrets() -> None:
    """Set, list and remove secrets.

    An agent gets those that its agent.yaml names under `secrets`, as environment variables.
    """


@secrets.command("set")
@click.argument("name")
@output_option
@pass_cli
def set_secret(cli: Cli, name: str) -> None:
    """Set a secret.

    \b
    Its value is typed, or comes on stdin:
      orchestrator secrets set OPENAI_API_KEY < key.txt
    """
    client = cli.connect()
    if sys.stdin.isatty():
        value = click.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise click.UsageError("The value is empty.")
    client.put(f"/secrets/{segment(name)}", {"value": value})
    cli.terminal.data({"name": name}, f"Set {name}; instances that start from now on get it")


@secrets.command("ls")
@output_option
@pass_cli
def list_secrets(cli: Cli) -> None:
    """List the names of the secrets.

    Values cannot be read back.
    """
    items, following = cli.connect().pages("/secrets", limit=1000)
    cli.terminal.data(
        {"items": items, "next": following},
        lambda: table(
            ("name", "updated"),
            ((item["name"], ago(item.get("updated_at"))) for item in items),
            empty="No secrets: `orchestrator secrets set NAME` sets one.",
        ),
    )


@secrets.command("rm")
@click.argument("name")
@output_option
@pass_cli
def remove(cli: Cli, name: str) -> None:
    """Remove a secret."""
    cli.connect().delete(f"/secrets/{segment(name)}")
    cli.terminal.data({"removed": name}, f"Removed {name}")
