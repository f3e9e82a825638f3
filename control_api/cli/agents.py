"""`ls`, `describe`, `delete`: agents."""

from __future__ import annotations

from typing import Any

import click

from control_api.cli.client import segment
from control_api.cli.command import Cli, agent_argument, confirm, output_option, pass_cli, yes_option
from control_api.cli.principals import principal_words
from control_api.cli.terminal import ago, fields, table


@click.command()
@output_option
@pass_cli
def ls(cli: Cli) -> None:
    """List the agents."""
    cli.terminal.page(cli.connect().pages("/agents"), agent_table)


def agent_table(agents: list[dict[str, Any]]) -> str:
    return table(
        ("name", "version", "framework", "state", "updated", "url"),
        ((a["name"], a["version"], a["framework"], a["state"], ago(a.get("updated_at")), a.get("url")) for a in agents),
        empty="No agents yet: `orchestrator new hello && cd hello && orchestrator deploy` makes one.",
    )


@click.command()
@agent_argument
@output_option
@pass_cli
def describe(cli: Cli, name: str) -> None:
    """Show one agent: version, traffic, revisions, protections."""
    client = cli.connect()
    agent = client.get(f"/agents/{segment(name)}")
    revisions, _ = client.pages(f"/agents/{segment(name)}/revisions", limit=20)
    deployments, _ = client.pages("/deployments", agent=agent["name"], limit=1)
    deployment = deployments[0] if deployments else None  # it was deleted just now
    found = {**agent, "revisions": revisions, "deployment": deployment}
    cli.terminal.data(found, lambda: _description(agent, revisions, deployment))


def _description(agent: dict[str, Any], revisions: list[dict[str, Any]], deployment: dict[str, Any] | None) -> str:
    simple = fields(
        (
            ("name", agent["name"]),
            ("id", agent.get("id")),
            ("owner", principal_words(agent.get("owner"))),
            ("version", agent.get("version") and f"{agent['version']} ({str(agent.get('digest'))[:12]})"),
            ("framework", agent.get("framework")),
            ("state", agent.get("state")),
            ("url", agent.get("url")),
            ("access", agent.get("access")),
            ("scale", scale_words(agent.get("scale") or {})),
            ("traffic", traffic_words(agent.get("traffic") or [])),
            ("updated", ago(agent.get("updated_at"))),
            ("protections", protection_words(revisions)),
            ("last deployment", deployment and deployment_words(deployment)),
        )
    )
    listed = table(
        ("revision", "version", "state", "instances", "problem"),
        (
            (
                r.get("name"),
                r.get("version"),
                r.get("state"),
                r.get("ready_instances"),
                (r.get("problem") or {}).get("detail"),
            )
            for r in revisions
        ),
        empty="No revisions",
    )
    return f"{simple}\n\n{listed}"


def scale_words(scale: dict[str, Any]) -> str:
    window = scale.get("window")
    return flat(scale if window is None else {**scale, "window": f"{window:g} s"})


def flat(values: Any) -> str:
    """A small object as `key value, key value`."""
    if not isinstance(values, dict):
        return "" if values is None else str(values)
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def protection_words(revisions: list[dict[str, Any]]) -> str:
    """What holds the sandboxes of this machine; only what is missing is spelled out."""
    found: dict[str, str] = next((r["protections"] for r in revisions if r.get("protections")), {})
    missing = {name: state for name, state in found.items() if not state.startswith("in force")}
    return flat(missing) or ("all in force" if found else "")


def deployment_words(deployment: dict[str, Any]) -> str:
    """How it goes or why it failed; nothing once it serves."""
    state, problem = deployment["state"], deployment.get("problem") or {}
    if state == "ready":
        return ""
    return f"{state}: {problem['detail'].splitlines()[0]} ({problem.get('code')})" if problem else state


def traffic_words(targets: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{target['revision']} {target['percent']} %" + (f" (tag {target['tag']})" if target.get("tag") else "")
        for target in targets
    )


@click.command()
@agent_argument
@yes_option
@output_option
@pass_cli
def delete(cli: Cli, name: str, yes: bool) -> None:
    """Delete an agent; its runs stay.

    It gets no more calls. What it works on is finished.
    """
    confirm(f"Delete the agent {name}?", yes=yes)
    cli.connect().delete(f"/agents/{segment(name)}")
    cli.terminal.data({"deleted": name}, f"Deleted {name}")
