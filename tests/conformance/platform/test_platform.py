"""What every Platform does, shown on the embedded engine (with a gateway that only answers) and on the fake."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domain.deployment import RevisionState
from domain.home import Home
from domain.ports import Platform
from local.platform import LocalPlatform
from orchestrator_runtime.contract.errors import AgentError
from tests.fakes.agents import create_desired, create_revision
from tests.fakes.gateway import FakeGateway
from tests.fakes.local_platform import callbacks
from tests.fakes.platform import FakePlatform


@dataclass(slots=True)
class Subject:
    """A platform, and how a test makes things happen to it that it cannot do itself."""

    platform: Platform
    fail: Callable[[str], None]
    write_log: Callable[[str, dict[str, Any]], None]


@asynccontextmanager
async def fake(folder: Path) -> AsyncIterator[Subject]:
    platform = FakePlatform()

    def fail(revision: str) -> None:
        platform.failing[revision] = {"code": "broken", "status": 500}

    def write_log(revision: str, record: dict[str, Any]) -> None:
        platform.write_log("o-1", revision, **record)

    yield Subject(platform, fail, write_log)


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Subject]:
    home = Home(folder)
    platform = LocalPlatform(
        home=home,
        callbacks=callbacks(),
        organization_name=lambda _: "default",
        first_organization="o-1",
        settings={},
        log_interval=0.001,
    )
    path = folder / "control.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    serving = asyncio.create_task(platform.gateway.serve(listening))
    gateway = await FakeGateway.connect(path)

    def fail(revision: str) -> None:
        gateway.failing[revision] = AgentError("It is broken", code="broken")

    def write_log(revision: str, record: dict[str, Any]) -> None:
        log = home.log("o-1", revision)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")

    try:
        yield Subject(platform, fail, write_log)
    finally:
        gateway.peer.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture(params=[fake, embedded])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    async with request.param(tmp_path) as made:
        yield made


async def test_it_lists_and_describes_what_it_serves(subject: Subject) -> None:
    platform = subject.platform
    await platform.deploy(create_desired(create_revision(1), create_revision(2)))
    await platform.deploy(create_desired(create_revision(1, agent="notes")))
    assert await platform.list() == [("o-1", "notes"), ("o-1", "triage")]
    statuses = await platform.describe("o-1", "triage")
    assert [status.revision for status in statuses] == ["triage-00001", "triage-00002"]


async def test_an_agent_that_was_never_called_has_no_instances(subject: Subject) -> None:
    await subject.platform.deploy(create_desired(create_revision(1)))
    assert list(subject.platform.instances("o-1", "triage")) == []


async def test_deploying_the_same_twice_changes_nothing(subject: Subject) -> None:
    agent = create_desired(create_revision(1))
    await subject.platform.deploy(agent)
    await subject.platform.deploy(agent)
    assert await subject.platform.list() == [("o-1", "triage")]


async def test_a_probe_says_that_a_revision_can_start(subject: Subject) -> None:
    await subject.platform.deploy(create_desired(create_revision(1), traffic={}))
    status = await subject.platform.probe("o-1", "triage-00001")
    assert status.state is RevisionState.READY


async def test_a_probe_says_why_a_revision_cannot_start(subject: Subject) -> None:
    await subject.platform.deploy(create_desired(create_revision(1), traffic={}))
    subject.fail("triage-00001")
    status = await subject.platform.probe("o-1", "triage-00001")
    assert status.state is RevisionState.FAILED
    assert status.problem is not None
    assert status.problem["code"] == "broken"


async def test_a_probe_of_an_unknown_revision_fails(subject: Subject) -> None:
    await subject.platform.deploy(create_desired(create_revision(1)))
    status = await subject.platform.probe("o-1", "triage-00009")
    assert status.problem is not None
    assert status.problem["code"] == "revision_unknown"


async def test_removing_is_idempotent(subject: Subject) -> None:
    await subject.platform.deploy(create_desired(create_revision(1)))
    await subject.platform.remove("o-1", "triage")
    await subject.platform.remove("o-1", "triage")
    assert await subject.platform.list() == []
    assert await subject.platform.describe("o-1", "triage") == []


async def test_logs_are_json_lines_oldest_first(subject: Subject) -> None:
    subject.write_log("triage-00001", {"line": "one"})
    subject.write_log("triage-00001", {"line": "two"})
    lines = [json.loads(line) async for line in subject.platform.logs("o-1", "triage-00001", follow=False)]
    assert [line["line"] for line in lines] == ["one", "two"]


async def test_a_revision_that_wrote_nothing_has_no_lines(subject: Subject) -> None:
    assert [line async for line in subject.platform.logs("o-1", "triage-00001", follow=False)] == []


async def test_following_a_log_waits_for_more(subject: Subject) -> None:
    subject.write_log("triage-00001", {"line": "one"})
    lines = aiter(subject.platform.logs("o-1", "triage-00001", follow=True))
    assert json.loads(await anext(lines))["line"] == "one"
    following: Awaitable[bytes] = asyncio.ensure_future(anext(lines))
    subject.write_log("triage-00001", {"line": "two"})
    assert json.loads(await following)["line"] == "two"
