"""Runs, sessions, secrets, logs and backups on the command line."""

from __future__ import annotations

import json

import pytest

from tests.fakes.api_server import LATER, MOMENT, RUN, FakePlatform, Reply, create_run, event_stream, json_reply
from tests.unit.cli.conftest import Orchestrator


@pytest.fixture(autouse=True)
def one_run(platform: FakePlatform) -> None:
    platform.runs[RUN] = create_run("triage")
    platform.steps = [
        {"id": "1", "parent": None, "name": "classify", "kind": "node", "state": "succeeded"},
        {
            "id": "2",
            "parent": "1",
            "name": "chat",
            "kind": "model",
            "state": "failed",
            "data": {"model": "small", "input_tokens": 12, "output_tokens": 3},
            "started_at": MOMENT,
            "ended_at": LATER,
        },
    ]


def test_runs_are_listed_and_filtered(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    said = orchestrator("runs", "--agent", "triage", "--state", "succeeded", "--session", "s", "--limit", "5")
    assert said.out.splitlines()[1].split()[:3] == [RUN, "triage", "succeeded"]
    [request] = platform.asked("GET /api/v1/runs")
    assert request.query == {"agent": "triage", "state": "succeeded", "session": "s", "limit": "5"}
    assert orchestrator("runs", "--state", "asleep").code == 2


def test_a_list_without_rows_says_whether_there_are_none_or_none_that_match(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    platform.runs.clear()
    assert "orchestrator invoke NAME" in orchestrator("runs").out
    assert orchestrator("runs", "--state", "failed").out == "No run matches.\n"
    assert orchestrator("sessions", "ls").out.startswith("No sessions: ")
    assert orchestrator("sessions", "ls", "--agent", "triage").out.startswith("No session of triage: ")


def test_a_waiting_run_says_what_it_waits_for(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.runs[RUN] = create_run("triage", state="waiting", wait_reason="retry", ended_at=None)
    assert "waiting (retry)" in orchestrator("runs").out


def test_a_run_is_shown_with_its_steps_as_a_tree(orchestrator: Orchestrator) -> None:
    said = orchestrator("runs", "show", RUN).out
    assert "took      1.5 s" in said
    assert said.splitlines()[-2:] == ["✓ classify  node", "  ✗ chat  model  small  12 + 3 tokens  1.5 s"]
    assert len(orchestrator("runs", "show", RUN, "-o", "json").json()["steps"]) == 2


def test_a_failed_run_is_shown_with_its_problem(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    problem = {"code": "executor_lost", "status": 502, "detail": "Its instance went away", "hint": "See the log."}
    platform.runs[RUN] = create_run("triage", state="failed", problem=problem)
    said = orchestrator("runs", "show", RUN).out
    assert "Its instance went away (executor_lost)" in said
    assert f"orchestrator logs triage --run {RUN}" in said


def test_following_prints_events_and_ends_with_the_run(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    events = event_stream(
        ("step.started", {"at": MOMENT, "step": "s-1", "name": "classify"}),
        ("step.succeeded", {"at": LATER, "step": "s-1"}),
        ("succeeded", {"at": LATER, "data": {"status": 200}}),
    )
    platform.answer(f"GET /api/v1/runs/{RUN}/events", events, events)
    said = orchestrator("runs", "follow", RUN)
    assert said.code == 0
    assert said.out.splitlines() == [
        "14:00:00.000  step.started  classify",
        "14:00:01.500  step.succeeded  classify",
        '14:00:01.500  succeeded  {"status": 200}',
    ]
    assert said.err == f"{RUN} succeeded\n"
    lines = orchestrator("runs", "follow", RUN, "-o", "json").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1", "2", "3"]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_following_a_run_that_does_not_succeed_fails(
    orchestrator: Orchestrator, platform: FakePlatform, state: str
) -> None:
    platform.runs[RUN] = create_run("triage", state=state)
    platform.answer(f"GET /api/v1/runs/{RUN}/events", event_stream((state, {})))
    assert orchestrator("runs", "follow", RUN).code == 1


def test_a_run_is_cancelled_and_retried(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer(f"POST /api/v1/runs/{RUN}/cancel", json_reply(create_run("triage", state="running")))
    assert orchestrator("runs", "cancel", RUN).out == f"Asked {RUN} to stop\n"
    assert orchestrator("runs", "retry", RUN).out.startswith(f"{RUN} is tried again; follow it")
    assert orchestrator("runs", "cancel", "none").code == 1


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_run_that_has_ended_is_not_said_to_be_asked(
    orchestrator: Orchestrator, platform: FakePlatform, state: str
) -> None:
    platform.answer(f"POST /api/v1/runs/{RUN}/cancel", json_reply(create_run("triage", state=state)))
    assert orchestrator("runs", "cancel", RUN).out == f"{RUN} has ended: {state}\n"


def test_sessions_are_listed_shown_and_deleted(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    assert "No sessions" in orchestrator("sessions", "ls").out
    platform.sessions["s 1"] = {"session": "s 1", "agent": "triage", "runs": 2, "updated_at": MOMENT}
    assert "s 1" in orchestrator("sessions", "ls", "--agent", "triage").out
    assert orchestrator("sessions", "show", "triage", "s 1", "-o", "json").json()["runs"] == 2
    assert orchestrator("sessions", "delete", "triage", "s 1").code == 2
    assert orchestrator("sessions", "delete", "triage", "s 1", "-y").out == "Deleted s 1\n"
    assert platform.sessions == {}


def test_a_secret_s_value_comes_on_stdin_and_is_never_printed(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    said = orchestrator("secrets", "set", "OPENAI_API_KEY", stdin=b"sk-canary\n")
    assert platform.secrets == {"OPENAI_API_KEY": "sk-canary"}
    assert "sk-canary" not in said.out + said.err
    assert "OPENAI_API_KEY" in orchestrator("secrets", "ls").out
    assert orchestrator("secrets", "rm", "OPENAI_API_KEY").out == "Removed OPENAI_API_KEY\n"
    assert platform.secrets == {}
    assert "No secrets" in orchestrator("secrets", "ls").out


def test_a_secret_is_never_taken_from_the_command_line_and_never_empty(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    assert orchestrator("secrets", "set", "NAME", "sk-canary").code == 2
    assert orchestrator("secrets", "set", "NAME", stdin=b"\n").code == 2
    assert platform.secrets == {}


def test_a_secret_may_stay_in_vault(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    assert orchestrator("secrets", "set", "KEY", "--from", "vault:openai#api_key").code == 0
    assert platform.secrets == {"KEY": "vault:openai#api_key"}


def test_versions_of_a_secret_are_listed_used_again_and_removed(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    platform.secrets["KEY"] = "value"
    assert orchestrator("secrets", "versions", "KEY").out.splitlines()[1].startswith("1")
    assert orchestrator("secrets", "rollback", "KEY", "1").out.startswith("KEY is version 1 again")
    assert platform.asked("POST /api/v1/secrets/KEY/rollback")[0].json() == {"version": 1}
    assert orchestrator("secrets", "rm", "KEY", "--version", "1").out == "Removed version 1 of KEY\n"
    assert platform.asked("DELETE /api/v1/secrets/KEY/versions/1")


def test_keys_are_shown_and_rotated(orchestrator: Orchestrator) -> None:
    assert "old (file)" in orchestrator("encryption", "status").out
    assert orchestrator("encryption", "rotate").out.startswith("Version 2 of the key is in use")
    assert orchestrator("encryption", "rotate", "--master", "-o", "json").json()["master"] == "new"


LINE = {"at": "2026-11-24T14:00:00.000Z", "instance": "triage-00001-abcd1234", "stream": "stdout", "line": "hello"}


def test_a_log_is_printed_from_json_lines(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    body = json.dumps(LINE).encode() + b"\n"
    platform.answer("GET /api/v1/agents/triage/logs", *[Reply(body, content_type="application/x-ndjson")] * 2)
    assert orchestrator("logs", "triage", "--revision", "2").out == "14:00:00  abcd1234  hello\n"
    assert platform.asked("GET /api/v1/agents/triage/logs")[0].query == {"revision": "triage-00002"}
    assert orchestrator("logs", "triage", "-o", "json").json() == LINE


def test_a_log_is_followed_as_events(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("GET /api/v1/agents/triage/logs", event_stream(("line", LINE)))
    assert orchestrator("logs", "triage", "-f").out == "14:00:00  abcd1234  hello\n"
    assert platform.asked("GET /api/v1/agents/triage/logs")[0].query == {"follow": "true"}


def test_the_log_of_one_run_is_asked_for_at_the_run(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer(f"GET /api/v1/runs/{RUN}/logs", event_stream(("line", LINE)))
    assert orchestrator("logs", "triage", "--run", RUN).out == "14:00:00  abcd1234  hello\n"


def test_a_backup_says_where_it_is(orchestrator: Orchestrator) -> None:
    assert orchestrator("backup").out == "Wrote /home/backups/1.db\n"
