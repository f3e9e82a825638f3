"""`invitations`: how people come into the organization."""

from __future__ import annotations

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.principals import day, in_days, principal_words, role_argument
from control_api.cli.terminal import table


@click.group()
def invitations() -> None:
    """Invite people, and accept an invitation."""


@invitations.command("ls")
@output_option
@pass_cli
def list_invitations(cli: Cli) -> None:
    """List the invitations, the newest first."""
    cli.terminal.page(
        cli.connect().pages("/invitations"),
        lambda items: table(
            ("email", "role", "state", "expires", "by", "id"),
            (
                (
                    one["email"],
                    one["role"],
                    one["state"],
                    day(one["expires_at"]),
                    principal_words(one["created_by"]),
                    one["id"],
                )
                for one in items
            ),
            empty="No invitations: `orchestrator invitations create EMAIL ROLE` makes one.",
        ),
    )


@invitations.command()
@click.argument("email")
@role_argument()
@click.option("--days", type=click.IntRange(1, 30), metavar="N", help="Open for so many days; 7 by default.")
@output_option
@pass_cli
def create(cli: Cli, email: str, role: str, days: int | None) -> None:
    """Invite a person; prints the token for them, once.

    They accept it with `orchestrator invitations accept`.
    """
    body = {"email": email, "role": role, "expires_at": in_days(days)}
    made = cli.connect().post("/invitations", body)
    cli.terminal.note(f"For {made['email']}, until {day(made['expires_at'])}; it is not shown again:")
    cli.terminal.data(made, made["token"])


@invitations.command()
@click.argument("invitation")
@output_option
@pass_cli
def revoke(cli: Cli, invitation: str) -> None:
    """Revoke an invitation, by its id."""
    cli.connect().delete(f"/invitations/{segment(invitation)}")
    cli.terminal.data({"revoked": invitation}, f"Revoked {invitation}")


@invitations.command()
@click.argument("token")
@click.option("--name", metavar="NAME", help="Your name.")
@click.option("--email", metavar="EMAIL", help="Your e-mail address: the one that was invited.")
@click.option("--as-me", is_flag=True, help="Join as the person that your present key belongs to.")
@output_option
@pass_cli
def accept(cli: Cli, token: str, name: str | None, email: str | None, as_me: bool) -> None:
    """Accept an invitation; prints a key for each organization.

    Who is new here gives --name and --email, and gets an organization of their own as well. The keys are not shown
    again; set ORCHESTRATOR_TOKEN to the one to work with.
    """
    if not as_me and not (name and email):
        raise click.UsageError("Say who you are: --name and --email; or --as-me.")
    client = cli.connect() if as_me else cli.connect(token="")
    made = client.post("/invitations/accept", {"token": token, "name": name, "email": email})
    keys = [key for key in (made["joined"], made["personal"]) if key]
    cli.terminal.data(
        made,
        lambda: table(
            ("organization", "role", "token"),
            ((key["organization"]["name"], key["role"], key["token"]) for key in keys),
            empty="",
        ),
    )
