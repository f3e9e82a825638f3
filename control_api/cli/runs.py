"""`runs`: what agents did, run by run and step by step."""

from __future__ import annotations

import json
from typing import Any

import click

from control_api.cli.client import Client, segment
from control_api.cli.command import Cli, complete_agents, output_option, pass_cli
from control_api.cli.terminal import Terminal, ago, duration, fields, table
from orchestrator_runtime.contract.states import RunState

MARKS = {"succeeded": "✓", "failed": "✗", "running": "…"}


@click.group(invoke_without_command=True)
@click.option("--agent", metavar="NAME", shell_complete=complete_agents, help="Only runs of this agent.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state.")
@click.option("--session", metavar="SESSION", help="Only runs of this session.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended: its `next` with --output json.")
@output_option
@click.pass_context
def runs(
    context: click.Context, agent: str | None, state: str | None, session: str | None, limit: int, cursor: str | None
) -> None:
    """List runs, the newest first; or work with one.

    \b
    Examples:
      orchestrator runs --agent triage --state failed
      orchestrator runs show ID
    """
    if context.invoked_subcommand is not None:
        return
    cli = context.ensure_object(Cli)
    found = cli.connect().pages("/runs", limit=limit, agent=agent, state=state, session=session, cursor=cursor)
    filtered = any(value is not None for value in (agent, state, session, cursor))
    empty = "No run matches." if filtered else "No runs: `orchestrator invoke NAME -d …` makes one."
    cli.terminal.page(found, lambda items: _run_table(items, empty=empty))


def _run_table(items: list[dict[str, Any]], *, empty: str) -> str:
    return table(
        ("run", "agent", "state", "started", "took", "session"),
        (
            (
                run["id"],
                run.get("agent"),
                _state(run),
                ago(run.get("created_at")),
                duration(run.get("created_at"), run.get("ended_at")),
                run.get("session"),
            )
            for run in items
        ),
        empty=empty,
    )


@runs.command()
@click.argument("run", metavar="ID")
@output_option
@pass_cli
def show(cli: Cli, run: str) -> None:
    """Show one run: its state, attempts and steps."""
    client = cli.connect()
    found = client.get(f"/runs/{segment(run)}")
    steps, _ = client.pages(f"/runs/{segment(run)}/steps")
    cli.terminal.data({**found, "steps": steps}, lambda: _description(found, steps))


def _description(run: dict[str, Any], steps: list[dict[str, Any]]) -> str:
    problem = run.get("problem") or {}
    attempts = run.get("attempts")
    simple = fields(
        (
            ("run", run["id"]),
            ("agent", run.get("agent")),
            ("revision", run.get("revision")),
            ("state", _state(run)),
            ("session", run.get("session")),
            ("started", ago(run.get("created_at"))),
            ("took", duration(run.get("created_at"), run.get("ended_at"))),
            ("attempts", len(attempts) if isinstance(attempts, list) else attempts),
            ("not asked for again", _unasked(attempts)),
            ("problem", problem.get("detail") and f"{problem['detail']} ({problem.get('code')})"),
            ("hint", problem.get("hint")),
            (
                "log",
                f"orchestrator logs {run.get('agent')} --run {run['id']}" if problem.get("status", 0) >= 500 else "",
            ),
        )
    )
    return simple + ("\n\n" + "\n".join(step_lines(steps)) if steps else "")


def _unasked(attempts: Any) -> str:
    """The calls that an earlier attempt recorded and the last one did not make again."""
    last = attempts[-1] if isinstance(attempts, list) and attempts else {}
    return ", ".join(f"{call['name']} ({call['n']})" for call in last.get("unasked", ()))


def step_lines(steps: list[dict[str, Any]]) -> list[str]:
    """The steps as a tree, children below the step that they belong to."""
    known = {step["id"] for step in steps}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for step in steps:
        parent = step.get("parent")
        children.setdefault(parent if parent in known else None, []).append(step)
    lines: list[str] = []
    waiting = [(step, 0) for step in reversed(children.get(None, []))]
    while waiting:
        step, depth = waiting.pop()
        lines.append("  " * depth + _step_line(step))
        waiting += [(child, depth + 1) for child in reversed(children.get(step["id"], []))]
    return lines


def _step_line(step: dict[str, Any]) -> str:
    data = step.get("data") or {}
    tokens = " + ".join(str(data[name]) for name in ("input_tokens", "output_tokens") if data.get(name) is not None)
    parts = (
        f"{MARKS.get(step.get('state', ''), ' ')} {step.get('name')}",
        str(step.get("kind") or ""),
        str(data.get("model") or ""),
        f"{tokens} tokens" if tokens else "",
        duration(step.get("started_at"), step.get("ended_at")),
    )
    return "  ".join(part for part in parts if part)


@runs.command()
@click.argument("run", metavar="ID")
@output_option
@pass_cli
def follow(cli: Cli, run: str) -> None:
    """Print what happens in a run until it ends.

    The exit code is 0 if it succeeds, else 1.
    """
    client = cli.connect()
    names: dict[str, str] = {}  # of steps; their ends do not repeat them
    for event in client.follow(f"/runs/{segment(run)}/events"):
        value = event.value()
        if isinstance(value, dict) and value.get("step"):
            value["name"] = names.setdefault(value["step"], value.get("name") or "")
        cli.terminal.data({"id": event.id, "event": event.name, "data": value}, event_text(event.name, value))
    _say_end(cli.terminal, client, run)


def event_text(name: str, value: Any) -> str:
    """One event for people."""
    if not isinstance(value, dict):
        return f"{name}  {value}"
    at = str(value.get("at", ""))[11:23]
    what = value.get("name") or value.get("state") or value.get("reason") or ""
    data = value.get("data")
    return "  ".join(
        part for part in (at, name, str(what), json.dumps(data, ensure_ascii=False) if data else "") if part
    )


def _say_end(terminal: Terminal, client: Client, run: str) -> None:
    found = client.get(f"/runs/{segment(run)}")
    if not terminal.json:
        terminal.note(f"{found['id']} {_state(found)}")
    if found["state"] in (RunState.FAILED, RunState.CANCELLED):
        raise click.exceptions.Exit(1)


@runs.command()
@click.argument("run", metavar="ID")
@output_option
@pass_cli
def cancel(cli: Cli, run: str) -> None:
    """Stop a run.

    It is asked to stop; what has not stopped after `timeouts.grace` of its agent.yaml is killed.
    """
    found = cli.connect().post(f"/runs/{segment(run)}/cancel")
    ended = found["state"] in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)
    cli.terminal.data(found, f"{run} has ended: {found['state']}" if ended else f"Asked {run} to stop")


@runs.command()
@click.argument("run", metavar="ID")
@output_option
@pass_cli
def retry(cli: Cli, run: str) -> None:
    """Give a failed run another attempt with the same input."""
    found = cli.connect().post(f"/runs/{segment(run)}/retry")
    cli.terminal.data(found, f"{run} is tried again; follow it with `orchestrator runs follow {run}`")


def _state(run: dict[str, Any]) -> str:
    """The state, with the reason while it waits."""
    reason = run.get("wait_reason")
    return f"{run.get('state')} ({reason})" if reason else str(run.get("state"))
