"""`grants` and `transfer`: who may do what with one agent, and whose it is."""

from __future__ import annotations

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, agent_argument, output_option, pass_cli
from control_api.cli.principals import ROLES, day, principal_id, principal_words, role_argument
from control_api.cli.terminal import table


@click.group()
def grants() -> None:
    """Give somebody a role on one agent only.

    PRINCIPAL is a member (id, e-mail address or name) or a service account (id or name).
    """


@grants.command("ls")
@agent_argument
@output_option
@pass_cli
def list_grants(cli: Cli, name: str) -> None:
    """List who has a role on an agent."""
    cli.terminal.page(
        cli.connect().pages(f"/agents/{segment(name)}/grants"),
        lambda items: table(
            ("name", "kind", "role", "since", "by", "id"),
            (
                (
                    principal_words(one["principal"]),
                    one["principal"]["kind"],
                    one["role"],
                    day(one["created_at"]),
                    principal_words(one["created_by"]),
                    one["principal"]["id"],
                )
                for one in items
            ),
            empty=f"No grants on {name}: `orchestrator grants set {name} PRINCIPAL ROLE` makes one.",
        ),
    )


@grants.command("set")
@agent_argument
@click.argument("principal")
@role_argument(*ROLES[:-1])
@output_option
@pass_cli
def set_grant(cli: Cli, name: str, principal: str, role: str) -> None:
    """Give somebody a role on an agent."""
    client = cli.connect()
    found = principal_id(client, principal)
    client.put(f"/agents/{segment(name)}/grants/{segment(found)}", {"role": role})
    cli.terminal.data({"agent": name, "principal": found, "role": role}, f"{principal} is {role} of {name} now")


@grants.command("rm")
@agent_argument
@click.argument("principal")
@output_option
@pass_cli
def remove(cli: Cli, name: str, principal: str) -> None:
    """Take somebody's role on an agent away."""
    client = cli.connect()
    found = principal_id(client, principal)
    client.delete(f"/agents/{segment(name)}/grants/{segment(found)}")
    cli.terminal.data({"agent": name, "removed": found}, f"{principal} has no grant on {name} any more")


@click.command()
@agent_argument
@click.argument("principal")
@output_option
@pass_cli
def transfer(cli: Cli, name: str, principal: str) -> None:
    """Hand an agent over to another owner."""
    client = cli.connect()
    owner = client.put(f"/agents/{segment(name)}/owner", {"principal": principal_id(client, principal)})
    cli.terminal.data(owner, f"{name} belongs to {principal_words(owner)} now")
