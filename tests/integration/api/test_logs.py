"""Logs of an agent: of all its revisions in order, of one, and live."""

from __future__ import annotations

import asyncio
import json

from tests.integration.api.world import ORGANIZATION, World


def write(world: World, revision: int, at: str, line: str) -> None:
    world.platform.write_log(ORGANIZATION, f"triage-{revision:05d}", at=at, line=line)


def said(text: str) -> list[str]:
    return [json.loads(line)["line"] for line in text.splitlines() if line]


async def test_lines_of_all_revisions_are_in_order(world: World) -> None:
    for code in ("a = 1\n", "b = 1\n"):
        await world.deploy(code=code)
    write(world, 1, "2026-01-01T00:00:01Z", "one")
    write(world, 1, "2026-01-01T00:00:03Z", "three")
    write(world, 2, "2026-01-01T00:00:02Z", "two")
    answer = await world.client.get("/agents/triage/logs")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert said(answer.text) == ["one", "two", "three"]


async def test_one_revision_can_be_asked_for(world: World) -> None:
    for code in ("a = 1\n", "b = 1\n"):
        await world.deploy(code=code)
    write(world, 1, "1", "one")
    write(world, 2, "2", "two")
    assert said((await world.client.get("/agents/triage/logs", params={"revision": "triage-00001"})).text) == ["one"]
    unknown = await world.client.get("/agents/triage/logs", params={"revision": "triage-00009"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "revision_unknown")


async def test_a_line_that_a_crash_cut_short_is_shown_and_does_no_harm(world: World) -> None:
    await world.deploy()
    world.platform.lines[(ORGANIZATION, "triage-00001")].append(b'{"at": "2026\n')
    write(world, 1, "2", "two")
    lines = (await world.client.get("/agents/triage/logs")).text.split()
    assert lines[0] == '{"at":'
    assert "two" in lines[-1]


async def test_the_time_of_a_line_is_written_as_everywhere(world: World) -> None:
    await world.deploy()
    world.platform.write_log(ORGANIZATION, "triage-00001", at=1795528800.25, line="grüß")
    line = (await world.client.get("/agents/triage/logs")).text
    assert json.loads(line) == {"at": "2026-11-24T14:00:00.250Z", "line": "grüß"}


async def test_following_goes_on_with_revisions_that_come_until_the_agent_is_deleted(world: World) -> None:
    await world.deploy()
    write(world, 1, "1", "one")
    lines = world.logs.follow(ORGANIZATION, "triage", None)
    async with asyncio.timeout(10):
        assert json.loads(await anext(lines))["line"] == "one"
        await world.deploy(code="b = 1\n")
        write(world, 2, "2", "two")
        assert json.loads(await anext(lines))["line"] == "two"
        await world.client.delete("/agents/triage")
        assert await anext(lines, None) is None


async def test_following_over_http_ends_with_the_agent(world: World) -> None:
    await world.deploy()
    write(world, 1, "1", "one")
    async with asyncio.timeout(10):
        following = asyncio.create_task(world.client.get("/agents/triage/logs", params={"follow": "true"}))
        await world.get("/agents/triage")
        await world.client.delete("/agents/triage")
        assert (await following).status_code == 200
