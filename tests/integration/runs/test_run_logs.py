"""What was written while working on one run, out of the log of its revision."""

from __future__ import annotations

import asyncio
import json

import pytest

from control_api.logs.service import LogsService
from orchestrator_runtime.contract.errors import NotFound
from tests.fakes.platform import FakePlatform
from tests.integration.journal.world import ORGANIZATION
from tests.integration.runs.world import Api

REVISION = "echo-00001"


def service(api: Api) -> tuple[LogsService, FakePlatform]:
    platform = FakePlatform()
    return LogsService(database=api.journal.database, platform=platform, changes=api.journal.changes), platform


async def test_only_lines_of_the_run_are_given(api: Api) -> None:
    logs, platform = service(api)
    await (await api.journal.instance()).admit("r-1")
    for run, line in (("r-1", "mine"), ("r-2", "another's, which names r-1"), ("r-1", "mine, too")):
        platform.write_log(ORGANIZATION, REVISION, run=run, line=line)
    platform.lines[(ORGANIZATION, REVISION)].append(b'{"run": "r-1", cut short\n')
    assert [json.loads(line)["line"] async for line in logs.read_run(ORGANIZATION, "r-1")] == ["mine", "mine, too"]


async def test_following_ends_with_the_run_and_misses_nothing(api: Api) -> None:
    logs, platform = service(api)
    instance = await api.journal.instance()
    await instance.admit("r-1")
    platform.write_log(ORGANIZATION, REVISION, run="r-1", line="one")
    lines = logs.follow_run(ORGANIZATION, "r-1")
    async with asyncio.timeout(10):
        assert json.loads(await anext(lines))["line"] == "one"
        platform.write_log(ORGANIZATION, REVISION, run="r-1", line="two")
        await instance.end("r-1")
        assert [json.loads(line)["line"] async for line in lines] == ["two"]


async def test_a_run_that_nobody_knows_has_no_log(api: Api) -> None:
    logs, _ = service(api)
    with pytest.raises(NotFound) as caught:
        await logs.check_run(ORGANIZATION, "r-9")
    assert caught.value.code == "run_unknown"
