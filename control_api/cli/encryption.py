"""`encryption`: which keys are in use, and new ones in their place."""

from __future__ import annotations

import click

from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.terminal import ago, fields


@click.group()
def encryption() -> None:
    """Show and rotate the keys that protect what is stored."""


@encryption.command()
@output_option
@pass_cli
def status(cli: Cli) -> None:
    """Show the keys in use, and whether a rotation is finished."""
    found = cli.connect().get("/encryption")
    shown = [
        ("master key", f"{found['master']} ({found['source']}), {ago(found['master_since'])}"),
        ("your key", f"version {found['version']}, {ago(found['since'])}"),
        ("rotation", "sealing what older versions sealed" if found["former_versions"] else "finished"),
    ]
    if found["unreadable"]:
        shown.append(("unreadable", f"{found['unreadable']} values; platform.log says more"))
    cli.terminal.data(found, fields(shown))


@encryption.command()
@click.option("--master", is_flag=True, help="Replace the master key of the installation instead.")
@output_option
@pass_cli
def rotate(cli: Cli, master: bool) -> None:
    """Replace your organization's key while everything runs.

    \b
    New values are encrypted with the new key at once, older ones in the background; then the former key is destroyed:
      orchestrator encryption rotate
      orchestrator encryption status

    With --master, the key in master.key or in Vault is replaced, and every organization's key is wrapped by it.
    """
    client = cli.connect()
    if master:
        made = client.post("/encryption/master/rotation")
        cli.terminal.data(made, f"The master key is {made['master']} now; keep a copy of it apart from your backups")
        return
    made = client.post("/encryption/rotation")
    cli.terminal.data(made, f"Version {made['version']} of the key is in use; `orchestrator encryption status` follows")
