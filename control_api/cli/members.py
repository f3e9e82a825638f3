"""`members`: the people of the organization."""

from __future__ import annotations

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, confirm, output_option, pass_cli, yes_option
from control_api.cli.principals import day, member_id, role_argument
from control_api.cli.terminal import table


@click.group()
def members() -> None:
    """List members, change their roles, remove them.

    MEMBER is an id, an e-mail address or a name. New members come by `orchestrator invitations`.
    """


@members.command("ls")
@output_option
@pass_cli
def list_members(cli: Cli) -> None:
    """List the members."""
    cli.terminal.page(
        cli.connect().pages("/members"),
        lambda items: table(
            ("name", "email", "role", "since", "id"),
            ((one["name"], one["email"], one["role"], day(one["created_at"]), one["id"]) for one in items),
            empty="No members",
        ),
    )


@members.command()
@click.argument("member")
@role_argument()
@output_option
@pass_cli
def role(cli: Cli, member: str, role: str) -> None:
    """Give a member another role."""
    client = cli.connect()
    path = f"/members/{segment(member_id(client, member))}"
    found = client.call("PATCH", path, value={"role": role})
    cli.terminal.data(found, f"{found['name']} is {found['role']} now")


@members.command("rm")
@click.argument("member")
@yes_option
@output_option
@pass_cli
def remove(cli: Cli, member: str, yes: bool) -> None:
    """Remove a member; their agents become yours.

    Their keys stop working at once.
    """
    client = cli.connect()
    found = member_id(client, member)
    confirm(f"Remove {member}?", yes=yes)
    client.delete(f"/members/{segment(found)}")
    cli.terminal.data({"removed": found}, f"Removed {member}")
