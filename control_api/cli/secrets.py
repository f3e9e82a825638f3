"""`secrets`: write-only values by name, in versions. A value is read from stdin or typed, never taken from the command
line, where every user of the machine could see it.
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
@click.option("--from", "reference", metavar="REFERENCE", help="Take it from Vault: vault:PATH#FIELD.")
@output_option
@pass_cli
def set_secret(cli: Cli, name: str, reference: str | None) -> None:
    """Set a secret.

    \b
    Its value is typed, or comes on stdin:
      orchestrator secrets set OPENAI_API_KEY < key.txt
    Or it stays in Vault, below your organization's folder, and is read when an instance starts:
      orchestrator secrets set OPENAI_API_KEY --from vault:openai#api_key
    """
    client = cli.connect()
    if reference is not None:
        client.put(f"/secrets/{segment(name)}", {"reference": reference})
        cli.terminal.data({"name": name, "reference": reference}, f"{name} is what {reference} says")
        return
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
    cli.terminal.page(
        cli.connect().pages("/secrets"),
        lambda items: table(
            ("name", "version", "updated", "from"),
            ((item["name"], item.get("version"), ago(item.get("updated_at")), item.get("reference")) for item in items),
            empty="No secrets: `orchestrator secrets set NAME` sets one.",
        ),
    )


@secrets.command("versions")
@click.argument("name")
@output_option
@pass_cli
def list_versions(cli: Cli, name: str) -> None:
    """List the versions of a secret that are kept."""
    found = cli.connect().get(f"/secrets/{segment(name)}/versions")
    cli.terminal.data(
        found,
        lambda: table(
            ("version", "made", "in use", "from"),
            (
                (item["version"], ago(item["created_at"]), "yes" if item["in_use"] else "", item["reference"])
                for item in found["items"]
            ),
            empty="",
        ),
    )


@secrets.command("rollback")
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@output_option
@pass_cli
def roll_back(cli: Cli, name: str, version: int) -> None:
    """Use a version of a secret again."""
    made = cli.connect().post(f"/secrets/{segment(name)}/rollback", {"version": version})
    cli.terminal.data(made, f"{name} is version {version} again; instances that start from now on get it")


@secrets.command("rm")
@click.argument("name")
@click.option("--version", type=click.IntRange(1), metavar="VERSION", help="Remove only this one, which is not in use.")
@output_option
@pass_cli
def remove(cli: Cli, name: str, version: int | None) -> None:
    """Remove a secret with all versions, or one of them."""
    which = "" if version is None else f"/versions/{version}"
    cli.connect().delete(f"/secrets/{segment(name)}{which}")
    said = name if version is None else f"version {version} of {name}"
    cli.terminal.data({"removed": name, "version": version}, f"Removed {said}")
