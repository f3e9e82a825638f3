"""`dev`: deploys a folder again whenever a file in it changes, and shows the agent's log meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from builders import bundle
from control_api.cli.client import Client, segment
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.deploy import deploy_folder, deployment_problem
from control_api.cli.logs import log_lines, log_text
from control_api.cli.terminal import Terminal
from orchestrator_runtime.contract.errors import Problem, Unavailable

SCAN_INTERVAL = 0.3  # seconds; a scan of a folder of 1,000 files takes about 10 ms

Snapshot = tuple[tuple[str, int, int, bool], ...]


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=".")
@output_option
@pass_cli
def dev(cli: Cli, path: Path) -> None:
    """Deploy a folder on every change, and show its log.

    PATH is the folder with the agent's agent.yaml; by default the current one. Ctrl-C ends it.
    """
    client = cli.connect()
    followed: set[str] = set()
    for _ in changes(lambda: snapshot(path), pause=time.sleep):
        deployment = try_deploy(client, path, cli.terminal)
        revision = deployment and deployment.get("revision")
        if deployment and revision and revision not in followed:
            followed.add(revision)
            arguments = (client, deployment["agent"], revision, cli.terminal)
            threading.Thread(target=show_log, args=arguments, daemon=True).start()


def changes(look: Callable[[], Snapshot], *, pause: Callable[[float], None]) -> Iterator[Snapshot]:
    """The folder as it is, then again each time it differs and has been quiet for one interval."""
    last: Snapshot | None = None
    while True:
        seen = look()
        if seen != last:
            pause(SCAN_INTERVAL if last is not None else 0)
            if last is not None and look() != seen:
                continue  # somebody is still writing
            last = seen
            yield seen
        else:
            pause(SCAN_INTERVAL)


def snapshot(folder: Path) -> Snapshot:
    """What tells one state of the folder from another: path, size, time and mode of each file that is deployed.

    Empty while the folder cannot be listed (a file vanished under the scan); the next look sees more.
    """
    try:
        files = bundle.list_files(folder)
        return tuple((f.path, f.size, Path(f.location).stat().st_mtime_ns, f.executable) for f in files)
    except (OSError, Problem):
        return ()


def try_deploy(client: Client, folder: Path, terminal: Terminal) -> dict[str, Any] | None:
    """Deploy; say what is wrong instead of ending, because the next change may mend it."""
    try:
        deployment = deploy_folder(client, folder, terminal=terminal, clock=time.monotonic)
    except Problem as problem:
        if isinstance(problem, Unavailable):
            raise
        terminal.problem(problem)
        return None
    if terminal.json:
        terminal.data(deployment, "")
    elif deployment["state"] == "failed":
        terminal.problem(deployment_problem(deployment))
    else:
        terminal.note(f"{deployment['agent']} serves at {deployment['url']}; waiting for changes (Ctrl-C ends)")
    return deployment


def show_log(client: Client, agent: str, revision: str, terminal: Terminal) -> None:
    """Print new lines of one revision for as long as it is followed."""
    try:
        for line in log_lines(client, f"/agents/{segment(agent)}/logs", follow=True, revision=revision):
            terminal.data({"log": line}, log_text(line))
    except Problem as problem:  # the log has gone (agent deleted, platform down): the deployments say more
        terminal.note(f"The log of {revision} ended: {problem.detail}", dim=True)
