"""Finding commands, exit codes, errors, and the start of the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from control_api.cli.main import COMMANDS
from control_api.cli.main import orchestrator as orchestrator_group
from orchestrator_runtime.contract.errors import Unavailable, Unprocessable
from tests.fakes.api_server import FakePlatform
from tests.unit.cli.conftest import Orchestrator

MOST_SHOWN = 60  # characters of a command's first sentence in a list that is 80 wide
HEAVY = {"fastapi", "sqlalchemy", "pydantic", "httpx", "starlette", "yaml", "asyncio", "cryptography"}


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join([*path, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


ALL = dict(commands(orchestrator_group))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_starts_with_a_sentence(orchestrator: Orchestrator, command: str) -> None:
    said = orchestrator(command, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: orchestrator {command}")
    assert "Options:" in said.out


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_has_a_help_that_no_terminal_cuts_off(name: str) -> None:
    command = ALL[name]
    assert command.help
    assert len(command.help.splitlines()[0]) <= MOST_SHOWN
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.metavar or option.is_flag or isinstance(option.type, click.Choice), option.name


def test_the_help_lists_every_command_and_the_exit_codes(orchestrator: Orchestrator) -> None:
    said = orchestrator("--help")
    assert all(f"\n  {command} " in said.out for command in COMMANDS)
    assert "Exit codes" in said.out


def test_nothing_heavy_is_imported_for_the_help_or_a_simple_command() -> None:
    program = (
        "import sys; from control_api.cli.main import run\n"
        "run(['--help']); run(['ls']); run(['invoke', 'a', '-d', '1'])\n"
        f"assert not set(sys.modules) & {HEAVY}, set(sys.modules) & {HEAVY}"
    )
    environment = {**os.environ, "ORCHESTRATOR_URL": "http://127.0.0.1:1", "ORCHESTRATOR_TOKEN": "x"}
    environment.pop("COVERAGE_PROCESS_START", None)
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, capture_output=True)


def test_a_mistyped_command_is_a_usage_error_with_a_suggestion(orchestrator: Orchestrator) -> None:
    said = orchestrator("dploy")
    assert said.code == 2
    assert "Did you mean `deploy`?" in said.err


def test_a_problem_is_told_with_its_code_and_what_to_do_next(orchestrator: Orchestrator) -> None:
    said = orchestrator("describe", "nobody")
    assert said.code == 1
    assert said.out == ""
    assert said.err == "error: There is no agent nobody (agent_unknown)\n  → `orchestrator ls` lists them.\n"


def test_in_json_a_problem_is_its_document(orchestrator: Orchestrator) -> None:
    said = orchestrator("describe", "nobody", "--output", "json")
    assert said.code == 1
    assert json.loads(said.err)["code"] == "agent_unknown"


def test_an_answer_that_is_no_problem_document_is_told_as_it_is(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    from tests.fakes.api_server import Reply

    platform.answer("GET /api/v1/agents", Reply(b"<h1>proxy</h1>", 502, "text/html"))
    said = orchestrator("ls")
    assert said.code == 1
    assert "HTTP 502: <h1>proxy</h1> (http_502)" in said.err


def test_mistakes_in_a_manifest_are_told_as_file_and_line(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    mistake = {"file": "agent.yaml", "line": 3, "rule": "unknown_field", "message": "there is no `scal`"}
    suggestion = "Did you mean `scale`?"
    platform.answer(
        "GET /api/v1/agents",
        Unprocessable("bad", code="manifest_invalid", mistakes=[{**mistake, "suggestion": suggestion}, mistake]),
    )
    said = orchestrator("ls")
    assert said.err.splitlines()[:2] == [
        "agent.yaml:3: unknown_field – there is no `scal` → Did you mean `scale`?",
        "agent.yaml:3: unknown_field – there is no `scal`",
    ]


def test_the_only_mistake_in_a_manifest_is_told_once(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    mistake = {"file": "agent.yaml", "line": 3, "rule": "unknown_field", "message": "there is no `scal`"}
    problem = Unprocessable("agent.yaml, line 3: there is no `scal`", code="manifest_invalid", mistakes=[mistake])
    platform.answer("GET /api/v1/agents", problem)
    assert orchestrator("ls").err == "error: agent.yaml, line 3: there is no `scal` (manifest_invalid)\n"


def test_mistakes_in_a_request_are_told_by_field(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    mistakes = [{"in": "body", "field": "targets.0.tag", "message": "too long"}, {"in": "query", "message": "no"}]
    platform.answer("GET /api/v1/agents", Unprocessable("bad", code="invalid_request", mistakes=mistakes))
    assert orchestrator("ls").err.splitlines()[:2] == ["targets.0.tag: too long", "query: no"]


def test_unavailable_has_an_exit_code_of_its_own(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("GET /api/v1/agents", Unavailable("busy", code="overloaded"))
    assert orchestrator("ls").code == 3


def test_nobody_there_says_how_to_start_it(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", "http://127.0.0.1:1")
    said = orchestrator("ls")
    assert said.code == 3
    assert "(server_unreachable)" in said.err
    assert "`orchestrator up`" in said.err


def test_a_home_that_was_never_started_says_how_to(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_URL")
    said = orchestrator("ls")
    assert said.code == 3
    assert "(not_started)" in said.err


def test_the_output_may_be_chosen_by_the_environment_and_before_or_after_the_command(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert orchestrator("--output", "json", "ls").json() == {"items": [], "next": None}
    assert orchestrator("ls", "--output", "json").json() == {"items": [], "next": None}
    monkeypatch.setenv("ORCHESTRATOR_OUTPUT", "json")
    assert orchestrator("ls").json() == {"items": [], "next": None}
    assert "No agents yet" in orchestrator("ls", "--output", "text").out
    monkeypatch.setenv("ORCHESTRATOR_OUTPUT", "yaml")
    said = orchestrator("ls")
    assert (said.code, said.out) == (2, "")
    assert "ORCHESTRATOR_OUTPUT is 'yaml'" in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(orchestrator: Orchestrator, shell: str) -> None:
    assert "_ORCHESTRATOR_COMPLETE" in orchestrator("completion", shell).out


def test_the_version_is_told(orchestrator: Orchestrator) -> None:
    assert orchestrator("version").out.startswith("orchestrator ")
    assert set(orchestrator("version", "-o", "json").json()) == {"orchestrator", "python"}


def test_the_manifest_s_schema_is_printed(orchestrator: Orchestrator) -> None:
    assert orchestrator("manifest", "schema").json()["properties"]["name"]
