"""What instances print on its way into files: lines, the runtime's own records, rotation."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from domain.home import Home
from local.supervisor import logs
from local.supervisor.logs import OutputReader, RevisionLog, RevisionLogs
from tests.fakes.manual_clock import START, ManualClock


@dataclass
class Printed:
    """Everything that one instance printed to a pipe, and what became of it."""

    path: Path
    tail: list[str] = field(default_factory=list)

    async def lines(self, *pieces: bytes) -> list[dict[str, Any]]:
        reading, writing = os.pipe()
        log = RevisionLog(self.path)
        reader = OutputReader(reading, stream="stdout", instance="i-1", log=log, clock=ManualClock(), tail=self.tail)
        for piece in pieces:
            os.write(writing, piece)
            for _ in range(3):  # turns of the loop until it was read
                await asyncio.sleep(0)
        os.close(writing)
        await asyncio.wait_for(reader.ended, 10)
        reader.close()  # twice is once
        log.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    return Printed(tmp_path / "logs/a-00001.log")


async def test_each_line_becomes_a_record_that_names_its_instance(printed: Printed) -> None:
    assert await printed.lines(b"one\ntw", b"o\nthree") == [
        {"at": START.timestamp(), "stream": "stdout", "line": line, "instance": "i-1"}
        for line in ("one", "two", "three")
    ]
    assert printed.tail == ["one", "two", "three"]


async def test_the_runtimes_own_records_keep_what_they_say(printed: Printed) -> None:
    own = b'{"at": 5.0, "run": "r-1", "stream": "stderr", "line": "hello"}\n'
    assert await printed.lines(own) == [
        {"at": 5.0, "run": "r-1", "stream": "stderr", "line": "hello", "instance": "i-1"}
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"at": 5.0, "line": "x", "instance": "somebody else"}',
        '{"at": 5.0}',
        '{"at": 5.0, "line": ',
        '["at", "line"]',
        '{"at":' + "[" * 60_000,
        '{"at":"x","line":"a"}',
        '{"at":NaN,"line":"a"}',
        '{"at":1.0,"line":{"a":1}}',
        '{"at":1.0,"line":"a","run":7}',
    ],
)
async def test_what_only_looks_like_one_is_a_line_as_any_other(printed: Printed, line: str) -> None:
    record, last = await printed.lines(line.encode() + b"\nlast\n")
    assert (record["line"], record["instance"]) == (line, "i-1")
    assert last["line"] == "last"


async def test_half_a_character_costs_no_line(printed: Printed) -> None:
    records = await printed.lines(b'{"at":1.0,"line":"\\ud800"}\nlast\n')
    assert [record["line"] for record in records] == ["?", "last"]


async def test_bytes_that_are_no_text_do_no_harm(printed: Printed) -> None:
    [record] = await printed.lines(b"\xff\xfe ok\n")
    assert record["line"] == "\ufffd\ufffd ok"


async def test_a_line_without_end_is_cut(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LINE_BYTES", 10)
    lines = [record["line"] for record in await printed.lines(b"x" * 25, b"y\n")]
    assert "".join(lines) == "x" * 25 + "y"
    assert len(lines) == 2


def test_a_full_file_makes_room_and_one_former_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 100)
    path = tmp_path / "a.log"
    log = RevisionLog(path)
    for number in range(20):
        log.write({"line": f"number {number}"})
    log.close()
    kept = [json.loads(line)["line"] for file in (f"{path}.1", path) for line in Path(file).read_text().splitlines()]
    assert kept[-1] == "number 19"
    assert kept == [f"number {number}" for number in range(20 - len(kept), 20)]
    assert len(kept) < 20
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.log", "a.log.1"]


def test_a_disk_that_is_full_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    log = RevisionLog(tmp_path / "a.log")
    log.close()
    log._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123
    log.write({"line": "lost"})
    log.close()


def test_logs_are_private_and_opened_once_per_revision(tmp_path: Path) -> None:
    opened = RevisionLogs(Home(tmp_path))
    first = opened.of("org-1", "a-00001")
    assert opened.of("org-1", "a-00001") is first
    assert opened.of("org-1", "a-00002") is not first
    first.write({"line": "one"})
    path = Home(tmp_path).log("org-1", "a-00001")
    assert path.stat().st_mode & 0o777 == 0o600
    first.close()
    opened.of("org-1", "a-00002").close()


def test_only_the_logs_that_were_used_last_are_open_and_none_loses_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_OPEN", 2)
    kept = RevisionLogs(Home(tmp_path))
    used = [kept.of("org", f"one-{number}") for number in range(4)]
    for log in used:
        log.write({"line": "a"})
    again = [kept.of("org", f"one-{number}") for number in range(4)]
    for log in (*used, *again):
        log.write({"line": "b"})
    for number in range(4):
        assert Home(tmp_path).log("org", f"one-{number}").read_bytes().count(b"\n") == 3
    for log in (*used, *again):
        log.close()
