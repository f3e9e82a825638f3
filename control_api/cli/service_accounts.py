"""`service-accounts`: programs that use the platform, with a role of their own."""

from __future__ import annotations

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, confirm, output_option, pass_cli, yes_option
from control_api.cli.principals import account_id, day, principal_words, role_argument
from control_api.cli.terminal import table


@click.group()
def service_accounts() -> None:
    """List, make and remove service accounts.

    Their keys are made with `orchestrator keys create --for NAME`.
    """


@service_accounts.command("ls")
@output_option
@pass_cli
def list_service_accounts(cli: Cli) -> None:
    """List the service accounts."""
    cli.terminal.page(
        cli.connect().pages("/service-accounts"),
        lambda items: table(
            ("name", "role", "since", "by", "id"),
            (
                (one["name"], one["role"], day(one["created_at"]), principal_words(one["created_by"]), one["id"])
                for one in items
            ),
            empty="No service accounts: `orchestrator service-accounts create NAME ROLE` makes one.",
        ),
    )


@service_accounts.command()
@click.argument("name")
@role_argument()
@output_option
@pass_cli
def create(cli: Cli, name: str, role: str) -> None:
    """Make a service account."""
    made = cli.connect().post("/service-accounts", {"name": name, "role": role})
    cli.terminal.data(made, f"Made {name}; `orchestrator keys create --for {name}` makes a key of it")


@service_accounts.command("rm")
@click.argument("name")
@yes_option
@output_option
@pass_cli
def remove(cli: Cli, name: str, yes: bool) -> None:
    """Remove a service account; its keys stop at once."""
    client = cli.connect()
    found = account_id(client, name)
    confirm(f"Remove the service account {name}?", yes=yes)
    client.delete(f"/service-accounts/{segment(found)}")
    cli.terminal.data({"removed": found}, f"Removed {name}")
