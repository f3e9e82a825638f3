"""`keys`: API keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.principals import account_id, day, in_days, principal_words
from control_api.cli.terminal import ago, table


@click.group()
def keys() -> None:
    """List, make, rotate and revoke API keys.

    A key is of one organization. Its token is shown when it is made, and never again.
    """


@keys.command("ls")
@output_option
@pass_cli
def list_keys(cli: Cli) -> None:
    """List the keys: yours, or all if you manage them."""
    cli.terminal.page(
        cli.connect().pages("/keys"),
        lambda items: table(
            ("name", "of", "scopes", "expires", "last used", "id"),
            (
                (
                    one["name"],
                    principal_words(one["principal"]),
                    "all" if one["scopes"] is None else ", ".join(one["scopes"]),
                    day(one["expires_at"]),
                    ago(one["last_used_at"]),
                    one["id"],
                )
                for one in items
            ),
            empty="No keys",
        ),
    )


@keys.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, metavar="PERMISSION", help="Only this; may be given several times.")
@click.option("--days", type=click.IntRange(1), metavar="N", help="Ends after so many days.")
@click.option("--for", "account", metavar="NAME", help="Of this service account, and not of yourself.")
@output_option
@pass_cli
def create(cli: Cli, name: str, scopes: Sequence[str], days: int | None, account: str | None) -> None:
    """Make a key; prints its token, once.

    \b
    NAME says what it is for:
      orchestrator keys create nightly --scope agents:invoke --days 90
    """
    client = cli.connect()
    body = {
        "name": name,
        "scopes": list(scopes) or None,
        "expires_at": in_days(days),
        "service_account": account and account_id(client, account),
    }
    _show(cli, client.post("/keys", body))


@keys.command()
@click.argument("key")
@output_option
@pass_cli
def rotate(cli: Cli, key: str) -> None:
    """Give a key, named by its id, another token.

    The one before stops working at once.
    """
    _show(cli, cli.connect().post(f"/keys/{segment(key)}/rotate"))


@keys.command()
@click.argument("key")
@output_option
@pass_cli
def revoke(cli: Cli, key: str) -> None:
    """Revoke a key, named by its id: it stops at once."""
    cli.connect().delete(f"/keys/{segment(key)}")
    cli.terminal.data({"revoked": key}, f"Revoked {key}")


def _show(cli: Cli, made: dict[str, Any]) -> None:
    cli.terminal.note(f"The key {made['name']} ({made['id']}); its token is not shown again:")
    cli.terminal.data(made, made["token"])
