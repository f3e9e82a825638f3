"""What a log line of ours looks like."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from domain.logging import configure, correlation_id


@pytest.fixture(autouse=True)
def restored_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_has_the_correlation_id_and_what_the_call_adds() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    token = correlation_id.set("c-1")
    logging.getLogger("deployments").info("ready after %s s", 2, extra={"revision": "triage-00001"})
    correlation_id.reset(token)
    [line] = lines(stream)
    assert line.pop("at")
    assert line == {
        "level": "INFO",
        "correlationId": "c-1",
        "logger": "deployments",
        "message": "ready after 2 s",
        "revision": "triage-00001",
    }


@pytest.mark.parametrize(
    ("number", "name"),
    [(10, "DEBUG"), (20, "INFO"), (30, "WARN"), (40, "ERROR"), (50, "FATAL")],
)
def test_levels_have_our_names(number: int, name: str) -> None:
    stream = io.StringIO()
    configure("DEBUG", stream=stream)
    logging.getLogger("x").log(number, "said")
    assert lines(stream)[0]["level"] == name


def test_an_exception_is_a_member_of_its_line() -> None:
    stream = io.StringIO()
    configure("INFO", stream=stream)
    try:
        int("broken")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    [line] = lines(stream)
    assert line["message"] == "it failed"
    assert "ValueError" in str(line["error"])
