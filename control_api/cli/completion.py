"""`completion`: what a shell needs to complete commands, options and names of agents."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands.

    For this shell only: `eval "$(orchestrator completion bash)"`
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "orchestrator", "_ORCHESTRATOR_COMPLETE").source())
