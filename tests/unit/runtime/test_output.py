"""Lines of an agent, each with its run, none with a secret."""

from __future__ import annotations

import base64
import io
import json
from urllib.parse import quote

import pytest

from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.output import LONGEST, RunOutput
from orchestrator_runtime.redaction import create_redactor
from tests.fakes.run_context import FakeRunContext, create_call


async def test_a_line_of_a_run_says_which_and_other_lines_stay_as_they_are() -> None:
    stream = io.StringIO()
    output = RunOutput(stream, "stdout", redact=str)
    output.write("before\n")
    call, _ = create_call(run=FakeRunContext(run="r-1"))
    with running(call):
        output.writelines(["one\ntw", "o", " \udcff\n"])
        output.write("rest")
    output.end("r-1")
    output.end("r-1")
    output.flush()
    before, *own = stream.getvalue().splitlines()
    assert before == "before"
    assert [json.loads(line)["line"] for line in own] == ["one", "two ?", "rest"]
    assert all(line.startswith('{"at":') for line in own)
    assert {(line["run"], line["stream"]) for line in map(json.loads, own)} == {("r-1", "stdout")}
    assert not output.isatty()


def test_a_line_that_is_too_long_becomes_several() -> None:
    stream = io.StringIO()
    RunOutput(stream, "stdout", redact=str).write("x" * (2 * LONGEST + 1) + "\n" + "y" * (LONGEST + 1))
    assert [len(line) for line in stream.getvalue().splitlines()] == [LONGEST, LONGEST, 1, LONGEST]


def test_a_secret_is_hidden_where_a_long_line_is_cut() -> None:
    stream = io.StringIO()
    RunOutput(stream, "stdout", redact=create_redactor([SECRET])).write("x" * (LONGEST - 5) + SECRET + "\n")
    assert SECRET[:5] not in stream.getvalue()


def test_much_without_a_line_break_is_cut_in_one_go() -> None:
    stream = io.StringIO()
    pieces: list[str] = []
    RunOutput(stream, "stdout", redact=lambda text: pieces.append(text) or text).write("x" * (9 * LONGEST + 1))  # type: ignore[func-returns-value]
    assert [len(piece) for piece in pieces] == [9 * LONGEST]
    assert [len(line) for line in stream.getvalue().splitlines()] == [LONGEST] * 9


SECRET = 'pass"wörd/ with spaces'


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        json.dumps({"key": SECRET}),
        json.dumps({"key": SECRET}, ensure_ascii=False),
        f"https://host/?key={quote(SECRET, safe='')}",
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_hidden_in_every_form(text: str) -> None:
    hidden = create_redactor([SECRET, "short"])(f"before {text} after")
    assert "[secret]" in hidden
    assert text not in hidden


def test_without_secrets_nothing_is_hidden() -> None:
    assert create_redactor(["short"])("short") == "short"
