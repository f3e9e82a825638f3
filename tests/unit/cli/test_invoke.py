"""Calling an agent: what is sent, and how the answer is printed."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from control_api.cli.client import TIMEOUT, Answer, Client
from orchestrator_runtime.contract.errors import AgentError, Unprocessable
from tests.fakes.api_server import RUN, FakePlatform, Reply, create_agent, event_stream, problem_reply
from tests.unit.cli.conftest import Orchestrator


@pytest.fixture(autouse=True)
def agent(platform: FakePlatform) -> None:
    platform.agents["echo"] = create_agent("echo")


def test_json_is_sent_and_answered_byte_by_byte(orchestrator: Orchestrator) -> None:
    said = orchestrator("invoke", "echo", "-d", '{"b": 1,   "a": [2]}')
    assert (said.code, said.out) == (0, '{"b": 1,   "a": [2]}')


def test_a_person_sees_json_indented(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_api.cli.terminal.Terminal.interactive", True)
    assert orchestrator("invoke", "echo", "-d", '{"a":"é"}').out == '{\n  "a": "é"\n}\n'


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.json", "application/json"),
        ("repo.bundle", "application/octet-stream"),
        ("a.png", "image/png"),
        ("a.unheard-of", "application/octet-stream"),
        ("a.txt", "text/plain"),
    ],
)
def test_a_file_s_type_follows_from_its_name(
    orchestrator: Orchestrator, platform: FakePlatform, tmp_path: Path, name: str, content_type: str
) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01")
    assert orchestrator("invoke", "echo", "-d", f"@{name}").code == 0
    [request] = platform.asked("POST /agents/echo")
    assert (request.headers["content-type"], request.body) == (content_type, b"\x00\x01")


def test_stdin_is_json_if_it_can_be_read_as_that(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    orchestrator("invoke", "echo", "-d", "-", stdin=b"[1]")
    orchestrator("invoke", "echo", "-d", "-", stdin=b"\xff")
    types = [request.headers["content-type"] for request in platform.asked("POST /agents/echo")]
    assert types == ["application/json", "application/octet-stream"]


def test_text_that_is_no_json_needs_a_type(orchestrator: Orchestrator) -> None:
    assert orchestrator("invoke", "echo", "-d", "hello").code == 2
    assert orchestrator("invoke", "echo", "-d", "hello", "--content-type", "text/plain").out == "hello"


def test_a_file_that_is_not_there_is_a_problem(orchestrator: Orchestrator) -> None:
    said = orchestrator("invoke", "echo", "-d", "@nowhere.json")
    assert said.code == 1
    assert "(file_unreadable)" in said.err


def test_options_become_headers_and_path(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    arguments = ["--session", "s1", "--idempotency-key", "k1", "-H", "X-Mine: 7", "-X", "PUT", "-p", "deep/er"]
    orchestrator("invoke", "echo", "-d", "1", *arguments)
    [request] = platform.asked("PUT /agents/echo/deep/er")
    assert request.headers["orchestrator-session"] == "s1"
    assert request.headers["idempotency-key"] == "k1"
    assert request.headers["x-mine"] == "7"
    assert orchestrator("invoke", "echo", "-H", "no colon").code == 2


def test_an_asynchronous_call_prints_where_the_run_is(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    said = orchestrator("invoke", "echo", "-d", "1", "--async")
    assert said.out.startswith(f"Accepted: /api/v1/runs/{RUN}\n")
    assert f"orchestrator runs follow {RUN}" in said.out
    said = orchestrator("invoke", "echo", "-d", "1", "--async", "-o", "json")
    assert (said.json()["run"], said.json()["status"]) == (RUN, 202)


def test_verbose_prints_the_run_s_address_on_stderr(orchestrator: Orchestrator) -> None:
    said = orchestrator("-v", "invoke", "echo", "-d", "1")
    assert said.out == "1"
    assert said.err == f"200 · /api/v1/runs/{RUN} · echo-00001\n"


def test_in_json_the_answer_comes_with_its_run(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    assert orchestrator("invoke", "echo", "-d", '{"a": 1}', "-o", "json").json() == {
        "run": RUN,
        "address": f"/api/v1/runs/{RUN}",
        "revision": "echo-00001",
        "status": 200,
        "content_type": "application/json",
        "answer": {"a": 1},
    }
    platform.answer("POST /agents/echo", Reply(b"\xff", content_type="image/png"), Reply(b"hi", content_type="text/x"))
    assert base64.b64decode(orchestrator("invoke", "echo", "-o", "json").json()["answer_base64"]) == b"\xff"
    assert orchestrator("invoke", "echo", "-o", "json").json()["answer"] == "hi"


def test_binary_goes_to_a_file_untouched_and_never_to_a_terminal(
    orchestrator: Orchestrator, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.answer("POST /agents/echo", *[Reply(b"\x00", content_type="image/png")] * 2)
    assert orchestrator("invoke", "echo").out == "\x00"
    monkeypatch.setattr("control_api.cli.terminal.Terminal.interactive", True)
    said = orchestrator("invoke", "echo")
    assert said.out == ""
    assert "1 bytes of image/png" in said.err


def test_a_failed_run_is_a_problem(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /agents/echo", AgentError("ValueError: no", code="agent_failed", hint="See its log."))
    said = orchestrator("invoke", "echo", "-d", "1")
    assert (said.code, said.out) == (1, "")
    assert "ValueError: no (agent_failed)" in said.err


@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_a_failed_run_is_named_with_the_command_that_shows_its_log(
    orchestrator: Orchestrator, platform: FakePlatform, options: tuple[str, ...]
) -> None:
    failed = problem_reply(AgentError("ValueError: no", code="agent_failed", hint="See its log."))
    failed.headers["orchestrator-run"] = "/api/v1/runs/r-1"
    platform.answer("POST /agents/echo", failed, failed)
    said = orchestrator("invoke", "echo", *options)
    assert said.err.splitlines()[1] == "  → See its log. `orchestrator logs echo --run r-1` shows it."
    assert json.loads(orchestrator("invoke", "echo", *options, "-o", "json").err)["run"] == "r-1"


def test_input_that_is_refused_has_no_log_to_look_at(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    refused = problem_reply(Unprocessable("no", code="input_invalid"))
    refused.headers["orchestrator-run"] = "/api/v1/runs/r-1"
    platform.answer("POST /agents/echo", refused)
    assert orchestrator("invoke", "echo").err == "error: no (input_invalid)\n"


def test_an_interrupted_call_says_that_its_run_goes_on(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("control_api.cli.client.Client.send", interrupt)
    said = orchestrator("invoke", "echo")
    assert said.code == 130
    assert "`orchestrator runs --agent echo`" in said.err


def test_an_agent_may_be_silent_for_longer_than_other_commands_wait(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float | None] = []
    send = Client.send

    def look(client: Client, *arguments: Any, **options: Any) -> Answer:
        waited.append(client.silence)
        return send(client, *arguments, **options)

    monkeypatch.setattr(Client, "send", look)
    assert orchestrator("invoke", "echo").code == 0
    assert orchestrator("ls").code == 0
    assert waited == [None, TIMEOUT]


def test_an_agent_s_own_error_answer_is_printed_and_fails(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /agents/echo", Reply(b"teapot", 418, "text/plain"))
    said = orchestrator("invoke", "echo", "-d", "1")
    assert (said.code, said.out) == (1, "teapot")
    assert "HTTP 418" in said.err


def test_a_stream_is_printed_event_by_event(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    stream = event_stream(("token", "Hel"), ("step", {"name": "model"}))
    platform.answer("POST /agents/echo", stream, stream)
    assert orchestrator("invoke", "echo", "--stream").out == 'token  Hel\nstep  {"name": "model"}\n'
    assert platform.asked("POST /agents/echo")[0].headers["accept"] == "text/event-stream"
    lines = orchestrator("invoke", "echo", "--stream", "-o", "json").out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"event": "token", "data": "Hel"},
        {"event": "step", "data": {"name": "model"}},
    ]


def test_a_stream_that_ends_in_a_problem_fails(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /agents/echo", event_stream(("problem", {"code": "agent_failed", "detail": "no"})))
    said = orchestrator("invoke", "echo", "--stream")
    assert said.code == 1
    assert "no (agent_failed)" in said.err


def test_an_answer_that_is_no_stream_is_printed_as_usual(orchestrator: Orchestrator) -> None:
    assert orchestrator("invoke", "echo", "-d", "[1]", "--stream").out == "[1]"


def test_a_broken_stream_is_unavailable(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /agents/echo", Reply(b"half", content_type="text/plain", cut=True))
    said = orchestrator("invoke", "echo")
    assert said.code == 3
    assert "(connection_broken)" in said.err


def test_nothing_is_taken_from_a_terminal_without_being_asked(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    orchestrator("invoke", "echo", stdin=b"ignored")
    [request] = platform.asked("POST /agents/echo")
    assert request.body == b""
    assert not sys.stdin.isatty()
