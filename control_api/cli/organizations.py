"""`whoami` and `organizations`: who one is, and where."""

from __future__ import annotations

import click

from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.principals import day, principal_words
from control_api.cli.terminal import fields, table


@click.command()
@output_option
@pass_cli
def whoami(cli: Cli) -> None:
    """Show who you are, where, and what you may do."""
    found = cli.connect().get("/whoami")
    cli.terminal.data(
        found,
        lambda: fields(
            (
                ("name", principal_words(found["principal"])),
                ("id", found["principal"]["id"]),
                ("kind", found["principal"]["kind"]),
                ("organization", found["organization"]["name"]),
                ("role", found["role"]),
                ("key expires", day(found["expires_at"])),
                ("permissions", ", ".join(found["permissions"])),
            )
        ),
    )


@click.group()
def organizations() -> None:
    """List your organizations, and rename the current one.

    A key is of one organization; `orchestrator whoami` says which one ORCHESTRATOR_TOKEN belongs to.
    """


@organizations.command("ls")
@output_option
@pass_cli
def list_organizations(cli: Cli) -> None:
    """List the organizations that you belong to."""
    cli.terminal.page(
        cli.connect().pages("/organizations"),
        lambda items: table(
            ("name", "id", "role", "current"),
            ((one["name"], one["id"], one["role"], "yes" if one["current"] else "") for one in items),
            empty="None",
        ),
    )


@organizations.command()
@click.argument("name")
@output_option
@pass_cli
def rename(cli: Cli, name: str) -> None:
    """Rename the organization of your key.

    Hosts such as AGENT.NAME.localhost change with it.
    """
    found = cli.connect().call("PATCH", "/organization", value={"name": name})
    cli.terminal.data(found, f"The organization is called {found['name']} now")
