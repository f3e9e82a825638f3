"""What is served besides what gets calls, and what happens when something is in the way."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import insert, update

from builders.resolver import UNREACHABLE
from control_api.changes import run_topic
from control_api.reconciler import agent, building
from control_api.store.tables import runs
from domain.deployment import BuildRequest, DesiredAgent, Environment
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.states import RunState, WaitReason
from tests.integration.api.world import ORGANIZATION, World

DOWN = Unavailable("It is down", code=UNREACHABLE)
LOST = {"state": RunState.WAITING, "wait_reason": WaitReason.RETRY}


async def test_older_revisions_are_retired_and_can_be_had_again(world: World) -> None:
    for number in range(3):
        await world.deploy(code=f"number = {number}\n")
    await world.agent_says(lambda: served(world) == ["triage-00002", "triage-00003"])
    assert (await world.get("/agents/triage/revisions/triage-00001"))["state"] == "retired"
    await world.client.post("/agents/triage/rollback", json={"revision": "triage-00001"})
    await world.agent_says(lambda: world.platform.traffic("triage") == {"triage-00001": 100})
    assert (await world.get("/agents/triage/revisions/triage-00001"))["state"] == "ready"


async def test_a_revision_with_open_runs_is_served_until_they_have_ended(world: World) -> None:
    await world.deploy()
    await create_run(world, "r-1", "triage-00001")
    for number in range(3):
        await world.deploy(code=f"number = {number}\n")
    await world.agent_says(lambda: served(world) == ["triage-00001", "triage-00003", "triage-00004"])
    world.changes.publish(run_topic("r-1"))  # something was recorded
    await end_run(world, "r-1")
    await world.agent_says(lambda: served(world) == ["triage-00003", "triage-00004"])


async def test_open_runs_of_a_deleted_agent_end_where_they_began(world: World) -> None:
    await world.deploy()
    await create_run(world, "r-1", "triage-00001")
    await world.client.delete("/agents/triage")
    await world.agent_says(lambda: world.platform.traffic("triage") == {})
    await world.deploy()
    await world.agent_says(lambda: served(world) == ["triage-00001", "triage-00002"])
    await world.restart()
    await world.agent_says(lambda: world.platform.desired and served(world) == ["triage-00001", "triage-00002"])
    await end_run(world, "r-1")
    await world.agent_says(lambda: served(world) == ["triage-00002"])


async def test_traffic_is_changed_while_a_deployment_is_under_way(world: World) -> None:
    for number in range(2):
        await world.deploy(code=f"number = {number}\n")
    world.builder.hold.clear()
    deployment = await world.ask(await world.upload(code="slow = 1\n"))
    await world.client.post("/agents/triage/rollback", json={})
    await world.agent_says(lambda: world.platform.traffic("triage") == {"triage-00001": 100})
    world.builder.hold.set()
    assert (await world.finished(deployment["id"]))["state"] == "ready"


async def test_secrets_never_show_in_a_build_s_log_and_a_long_log_is_cut(world: World) -> None:
    async def build(request: BuildRequest, *, log: Any) -> Environment:
        log("fetching https://user:hunter22@index/simple")
        for _ in range(1100):
            log("x" * 1023)
        return Environment("e" * 64, "", "")

    world.builder.build = build  # type: ignore[method-assign]
    await world.client.put("/secrets/UV_INDEX_PRIVATE_PASSWORD", json={"value": "hunter22"})
    deployment = await world.deploy()
    log = (await world.client.get(f"/builds/{deployment['build']}/log")).text
    assert log.startswith("fetching https://user:***@index/simple\n")
    assert log.endswith("the rest is left out]\n")
    assert len(log) < 1024 * 1024 + 100


async def test_a_defect_of_the_builder_fails_the_deployment(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def build(request: BuildRequest, *, log: Any) -> Environment:
        raise ZeroDivisionError

    world.builder.build = build  # type: ignore[method-assign]
    deployment = await world.deploy()
    assert (deployment["state"], deployment["problem"]["code"]) == ("failed", "internal")
    assert "failed unexpectedly" in caplog.text


async def test_an_index_that_does_not_answer_is_asked_again_and_the_log_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "RETRY_AFTER", (0.0, 0.0))
    build, failures = world.builder.build, [DOWN, DOWN]

    async def fail_twice(request: BuildRequest, *, log: Any) -> Environment:
        if failures:
            raise failures.pop()
        return await build(request, log=log)

    monkeypatch.setattr(world.builder, "build", fail_twice)
    deployment = await world.deploy()
    assert deployment["state"] == "ready"
    log = (await world.client.get(f"/builds/{deployment['build']}/log")).text
    assert log.splitlines()[:2] == [f"It is down. Trying again in 0 s ({number} of 3)" for number in (2, 3)]


async def test_an_index_that_stays_away_and_what_another_try_cannot_mend_fail_the_deployment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "RETRY_AFTER", (0.0, 0.0))
    for problem, tries in ((DOWN, 3), (Unavailable("The disk is full", code="disk_full"), 1)):
        world.builder.requests.clear()
        world.builder.failing.clear()
        digest = await world.upload(code=f"{tries} = 0\n")
        world.builder.failing[digest] = problem
        deployment = await world.finished((await world.ask(digest))["id"])
        assert (deployment["state"], deployment["problem"]["code"]) == ("failed", problem.code)
        assert len(world.builder.requests) == tries


async def test_a_platform_that_refuses_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent, "PAUSE", 0)
    caplog.set_level(logging.CRITICAL, "reconciler")
    deploy, refused = world.platform.deploy, asyncio.Event()

    async def refuse_once(desired: DesiredAgent) -> None:
        if not refused.is_set():
            refused.set()
            raise OSError("no")
        await deploy(desired)

    monkeypatch.setattr(world.platform, "deploy", refuse_once)
    assert (await world.deploy())["state"] == "ready"


def served(world: World) -> list[str]:
    [desired] = world.platform.desired.values()
    return [revision.name for revision in desired.revisions]


async def create_run(world: World, run: str, revision: str) -> None:
    now: datetime = world.clock.now()
    row = {
        "organization": ORGANIZATION,
        "id": run,
        "agent": "triage",
        "revision": revision,
        **LOST,
        "epoch": 1,
        "attempt": 1,
        "failed_count": 0,
        "lost_count": 0,
        "timeout": 300.0,
        "trigger": "http",
        "background": 1,
        "request": {},
        "correlation": "-",
        "created_at": now,
        "event_count": 1,
        "recorded_count": 0,
        "batch": 0,
        "partition": "2026w01",
    }
    await world.database.write(lambda session: session.execute(insert(runs).values(row)))


async def end_run(world: World, run: str) -> None:
    ended = {"state": RunState.CANCELLED, "wait_reason": None, "ended_at": world.clock.now()}
    await world.database.write(lambda session: session.execute(update(runs).where(runs.c.id == run).values(ended)))
    world.changes.publish(run_topic(run))
