"""What the client makes of answers, and how words and tables are printed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from control_api.cli.client import Answer, problem_of, segment, target
from control_api.cli.events import ServerEvent, read_events
from control_api.cli.terminal import ago, duration, fields, table
from orchestrator_runtime.contract.errors import NotFound, Problem

NOW = datetime(2026, 11, 24, 14, tzinfo=UTC)


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        b": a comment",
        b"id: 1",
        b"event: x",
        b"data: a",
        b"data:b",
        b"",
        b"retry: 5",
        b"",
        b"data: {}\r",
        b"\r",
        b"data: cut",
    ]
    assert list(read_events(lines)) == [ServerEvent("x", "a\nb", "1"), ServerEvent("message", "{}", "1")]
    assert ServerEvent("x", "no json").value() == "no json"


def test_a_path_holds_whatever_was_typed_as_one_segment() -> None:
    assert segment("a/../b?c") == "a%2F..%2Fb%3Fc"
    assert target("/x", {"a": None, "b": True, "c": "ü&"}) == "/x?b=true&c=%C3%BC%26"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Answer(404, {}, b'{"detail": "no", "code": "gone", "status": 404}'), NotFound, "gone"),
        (Answer(404, {}, b"plain words"), NotFound, "http_404"),
        (Answer(418, {}, b"[1]"), Problem, "http_418"),
        (Answer(500, {}, b""), Problem, "http_500"),
    ],
)
def test_every_error_answer_becomes_a_problem(answer: Answer, kind: type[Problem], code: str) -> None:
    problem = problem_of(answer)
    assert isinstance(problem, kind)
    assert problem.code == code
    assert problem.detail


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-24T13:59:48.000Z", "12 s ago"),
        ("2026-11-24T13:55:00.000Z", "5 min ago"),
        ("2026-11-24T11:00:00.000Z", "3 h ago"),
        ("2026-11-20T14:00:00.000Z", "4 d ago"),
        ("2026-11-24T14:00:09.000Z", "0 s ago"),
        (None, ""),
    ],
)
def test_a_moment_is_told_by_its_distance(moment: str | None, words: str) -> None:
    assert ago(moment, now=NOW) == words


def test_a_duration_is_told_in_a_fitting_unit() -> None:
    assert duration("2026-11-24T14:00:00.000Z", "2026-11-24T14:00:00.042Z") == "42 ms"
    assert duration("2026-11-24T14:00:00.000Z", "2026-11-24T14:01:30.000Z") == "90.0 s"
    assert duration("2026-11-24T14:00:00.000Z", None) == ""


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert table(("a", "b"), [("long", None), ("x", 0)], empty="none") == "A     B\nlong  –\nx     0"
    assert table(("a",), [], empty="none") == "none"
    assert fields([("name", "x"), ("empty", ""), ("id", 7)]) == "name  x\nid    7"
