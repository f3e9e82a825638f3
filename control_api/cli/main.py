"""`orchestrator`: finds the command that was asked for, imports that one, and turns errors into words and exit codes.

Exit codes: 0 done · 1 a problem, which stderr explains · 2 the command line is wrong · 3 the platform is unavailable ·
130 interrupted.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from control_api.cli.command import OUTPUTS, Cli, output_option
from orchestrator_runtime.contract.errors import Problem, Unavailable

DONE, PROBLEM, UNAVAILABLE, INTERRUPTED = 0, 1, 3, 130  # 2 is click's own

COMMANDS = {
    "up": "engine",
    "down": "engine",
    "status": "engine",
    "new": "new",
    "deploy": "deploy",
    "dev": "dev",
    "ls": "agents",
    "describe": "agents",
    "delete": "agents",
    "invoke": "invoke",
    "logs": "logs",
    "runs": "runs",
    "sessions": "sessions",
    "secrets": "secrets",
    "encryption": "encryption",
    "whoami": "organizations",
    "organizations": "organizations",
    "members": "members",
    "invitations": "invitations",
    "service-accounts": "service_accounts",
    "keys": "keys",
    "grants": "grants",
    "transfer": "grants",
    "rollback": "traffic",
    "traffic": "traffic",
    "backup": "backup",
    "restore": "backup",
    "manifest": "manifest",
    "completion": "completion",
    "version": "version",
}
"""Command -> the module of this package that has a function of its name, with `_` for `-`."""


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f"control_api.cli.{module}"), cmd_name.replace("-", "_"))
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean `{close[0]}`?" if close else " `orchestrator --help` lists all."
            ctx.fail(f"There is no command `{args[0]}`.{meant}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--verbose", "-v", is_flag=True, help="Say more about what is done.")
@click.version_option(package_name="orchestrator", message="%(prog)s %(version)s")
@output_option
@click.pass_obj
def orchestrator(cli: Cli, verbose: bool) -> None:
    """Deploy agents from folders, call them, and see every step of what they did.

    \b
    A first agent:
      orchestrator up
      orchestrator new hello
      orchestrator deploy hello
      orchestrator invoke hello -d @hello/input.json

    `orchestrator COMMAND --help` says more about each command.

    Exit codes: 0 done, 1 a problem, 2 a wrong command line, 3 the platform is unavailable.
    """
    if cli.terminal.output not in OUTPUTS:
        raise click.UsageError(f"ORCHESTRATOR_OUTPUT is {cli.terminal.output!r}, and not {' or '.join(OUTPUTS)}.")
    cli.terminal.verbose = verbose


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; returns the exit code."""
    cli = Cli.from_environment(os.environ)
    try:
        result = orchestrator.main(
            list(sys.argv[1:] if arguments is None else arguments),
            prog_name="orchestrator",
            obj=cli,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except Problem as problem:
        cli.terminal.problem(problem)
        return UNAVAILABLE if isinstance(problem, Unavailable) else PROBLEM
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return result if isinstance(result, int) else DONE


def main() -> NoReturn:
    sys.exit(run())
