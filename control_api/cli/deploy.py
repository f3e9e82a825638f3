"""`deploy`: a folder becomes what its agent serves; shown live while it builds and starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from builders import bundle
from control_api.cli.client import API, Client, checked
from control_api.cli.command import Cli, output_option, pass_cli
from control_api.cli.events import ServerEvent
from control_api.cli.terminal import Terminal
from orchestrator_runtime.contract.errors import BadInput, NotFound, Problem, from_document

FINAL = ("ready", "failed")
WORDS = {"building": "Building the environment", "starting": "Starting an instance", "ready": "Ready"}


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=".")
@output_option
@pass_cli
def deploy(cli: Cli, path: Path) -> None:
    """Deploy the agent in a folder and wait until it serves.

    PATH is the folder with the agent's agent.yaml; by default the current one. What served before goes on serving until
    the new revision is ready. A folder that has not changed is not deployed again.
    """
    clock = time.monotonic
    started = clock()
    deployment = deploy_folder(cli.connect(), path, terminal=cli.terminal, clock=clock)
    if deployment["state"] == "failed":
        if cli.terminal.json:
            cli.terminal.data(deployment, "")
        raise deployment_problem(deployment)
    seconds = clock() - started
    what = f"{deployment['agent']} {deployment['version']} ({deployment['digest'][:12]})"
    words = "is unchanged and already serves" if deployment.get("unchanged") else f"serves after {seconds:.1f} s"
    cli.terminal.data(deployment, f"{what} {words} at {deployment['url']}")


def deploy_folder(client: Client, folder: Path, *, terminal: Terminal, clock: Callable[[], float]) -> dict[str, Any]:
    """Deploy, show the progress, and return the deployment once it is ready or has failed.

    Raises `BadInput` for a folder without agent.yaml, and whatever refuses the version itself.
    """
    if not (folder / "agent.yaml").is_file():
        raise BadInput(
            f"There is no agent.yaml in {folder.absolute()}",
            code="no_manifest",
            hint="Go to an agent's folder, or make one: `orchestrator new NAME`.",
        )
    progress = Progress(terminal, clock)
    digest = bundle.digest(bundle.list_files(folder))
    try:
        deployment = client.post("/deployments", {"digest": digest})
    except NotFound as problem:
        if problem.code != "version_unknown":
            raise
        progress.say("Uploading")
        digest = _upload(client, folder)
        deployment = client.post("/deployments", {"digest": digest})
    if deployment.get("unchanged"):
        return dict(deployment)
    return _follow(client, deployment, progress)


def _upload(client: Client, folder: Path) -> str:
    """Send the folder; returns its digest as the server has it, which decides if a file changed meanwhile."""
    body = bundle.pack(folder)
    answer = client.send("POST", API + "/versions", body=body, headers={"content-type": "application/gzip"})
    return str(checked(answer).json()["digest"])


def _follow(client: Client, deployment: dict[str, Any], progress: Progress) -> dict[str, Any]:
    address = f"/deployments/{deployment['id']}"
    if deployment["state"] not in FINAL:
        progress.state(deployment["state"])
        for event in client.follow(f"{address}/events"):
            progress.event(event)
        deployment = client.get(address)
    return deployment


def deployment_problem(deployment: dict[str, Any]) -> Problem:
    """Why a deployment failed, in its own words."""
    document = deployment.get("problem") or {"detail": "It failed without a reason", "code": "deployment_failed"}
    problem = from_document({"status": 422, **document})
    if problem.extra.get("log"):  # an instance has printed something, before it failed to start
        command = f"`orchestrator logs {deployment['agent']} --revision {deployment['revision']}` shows it."
        problem.hint = f"{problem.hint} {command}".strip()
    return problem


@dataclass(slots=True)
class Progress:
    """Says what a deployment is doing, and how long it has taken so far; on stderr, each state once."""

    terminal: Terminal
    clock: Callable[[], float]
    started: float = 0.0
    shown: str = ""

    def __post_init__(self) -> None:
        self.started = self.clock()

    def say(self, words: str) -> None:
        if words != self.shown:
            self.terminal.note(f"[{self.clock() - self.started:5.1f} s] {words}")
        self.shown = words

    def state(self, state: str) -> None:
        if state in WORDS:
            self.say(WORDS[state])

    def event(self, event: ServerEvent) -> None:
        """One event of the deployment's stream: a line of the build's log, or a change of state."""
        value = event.value()
        if not isinstance(value, dict):
            return
        if "line" in value:
            self.terminal.note(f"          {value['line']}", dim=True)
        elif "state" in value:
            self.state(value["state"])
