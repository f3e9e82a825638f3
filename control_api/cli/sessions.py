"""`sessions`: conversations with an agent, and the state that they left in the journal."""

from __future__ import annotations

import json
from typing import Any

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, complete_agents, confirm, output_option, pass_cli, yes_option
from control_api.cli.terminal import ago, table


@click.group()
def sessions() -> None:
    """List, show and delete sessions (conversations).

    `orchestrator invoke --session` starts a session or continues one.
    """


@sessions.command("ls")
@click.option("--agent", metavar="NAME", shell_complete=complete_agents, help="Only sessions of this agent.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=50, show_default=True, help="At most so many.")
@output_option
@pass_cli
def list_sessions(cli: Cli, agent: str | None, limit: int) -> None:
    """List the sessions, the newest first."""
    found = cli.connect().pages("/sessions", limit=limit, agent=agent)
    starts = f"`orchestrator invoke {agent or 'NAME'} --session S -d …` starts one."
    empty = f"No session of {agent}: {starts}" if agent else f"No sessions: {starts}"
    cli.terminal.page(found, lambda items: _session_table(items, empty=empty))


def _session_table(items: list[dict[str, Any]], *, empty: str) -> str:
    return table(
        ("session", "agent", "runs", "updated"),
        ((i.get("session"), i.get("agent"), i.get("runs"), ago(i.get("updated_at"))) for i in items),
        empty=empty,
    )


@sessions.command()
@click.argument("agent", shell_complete=complete_agents)
@click.argument("session")
@output_option
@pass_cli
def show(cli: Cli, agent: str, session: str) -> None:
    """Show one session: its state and how many runs it had."""
    found = cli.connect().get(_path(agent, session))
    cli.terminal.data(found, lambda: json.dumps(found, indent=2, ensure_ascii=False))


@sessions.command()
@click.argument("agent", shell_complete=complete_agents)
@click.argument("session")
@yes_option
@output_option
@pass_cli
def delete(cli: Cli, agent: str, session: str, yes: bool) -> None:
    """Delete a session and its state; its runs stay."""
    confirm(f"Delete the session {session} of {agent}?", yes=yes)
    cli.connect().delete(_path(agent, session))
    cli.terminal.data({"deleted": session, "agent": agent}, f"Deleted {session}")


def _path(agent: str, session: str) -> str:
    return f"/agents/{segment(agent)}/sessions/{segment(session)}"
