"""What every command is given (`Cli`), and the options that many of them share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from control_api.cli.client import Client
from control_api.cli.terminal import Terminal
from domain.home import Home
from orchestrator_runtime.contract.errors import Forbidden, Unavailable

F = TypeVar("F", bound=Callable[..., Any])
OUTPUTS = ("text", "json")


@dataclass(slots=True)
class Cli:
    """The installation that commands work on, and where they print."""

    environ: Mapping[str, str]
    home: Home
    terminal: Terminal

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Cli:
        return cls(environ, Home.from_environment(environ), Terminal(environ.get("ORCHESTRATOR_OUTPUT") or "text"))

    def connect(self, *, token: str | None = None) -> Client:
        """The platform: ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN, or what the home folder says; or another token.

        Raises `Unavailable` if it has never been started, `Forbidden` if its token is somebody else's to read.
        """
        url = self.environ.get("ORCHESTRATOR_URL") or self._read("address")
        if token is None:
            token = self.environ.get("ORCHESTRATOR_TOKEN") or self._read("owner-token")
        return Client(url, token, ca=self.ca)

    @property
    def ca(self) -> str | None:
        """The file of the certification authority that is trusted in place of the system's, if one is named."""
        return self.environ.get("ORCHESTRATOR_CA") or None

    def _read(self, name: str) -> str:
        path = self.home.root / name
        try:
            return path.read_text().strip()
        except FileNotFoundError as error:
            raise Unavailable(
                f"Orchestrator has not been started: there is no {path}",
                code="not_started",
                hint="Start it with `orchestrator up`, or set ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN.",
            ) from error
        except PermissionError as error:
            raise Forbidden(
                f"{path} may not be read by this user",
                code="not_owner",
                hint="Work as the user who started it, or set ORCHESTRATOR_URL and ORCHESTRATOR_TOKEN.",
            ) from error


pass_cli = click.make_pass_decorator(Cli)


def output_option(command: F) -> F:
    """`--output json|text`, also as ORCHESTRATOR_OUTPUT; may stand before or after the command's name."""

    def choose(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value:
            context.ensure_object(Cli).terminal.output = value

    return click.option(
        "--output",
        "-o",
        type=click.Choice(OUTPUTS),
        expose_value=False,
        callback=choose,
        help="Print data as text or as JSON; also set by ORCHESTRATOR_OUTPUT.",
    )(command)


def yes_option(command: F) -> F:
    """`--yes`, for `confirm`."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask whether to do it.")(command)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if told to. Raises `UsageError` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to confirm it: add --yes.")
    click.confirm(question, abort=True, err=True)


def complete_agents(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names for the shell's completion; none while the platform is down."""
    try:
        client = Cli.from_environment(os.environ).connect()
        agents = replace(client, timeout=1.0, silence=1.0).get("/agents")["items"]
    except Exception:  # noqa: BLE001 - the shell's border: a completion that cannot be had is no error to show there
        return []
    return [agent["name"] for agent in agents if agent["name"].startswith(incomplete)]


def agent_argument(command: F) -> F:
    return click.argument("name", shell_complete=complete_agents)(command)
