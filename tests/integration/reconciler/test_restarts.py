"""The server ends at every step of a deployment and starts again: it continues from the database alone."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from control_api.reconciler import steps
from control_api.store.tables import builds
from tests.integration.api.world import ORGANIZATION, World, events


async def test_a_restart_serves_what_was_served(world: World) -> None:
    await world.deploy()
    await world.deploy("notes")
    served = dict(world.platform.desired)
    world.platform.desired.clear()
    await world.restart()
    for organization, name in served:
        await world.agent_says(lambda key=(organization, name): key in world.platform.desired, name)
    assert world.platform.desired == served
    assert world.platform.probed == ["triage-00001", "notes-00001"], "nothing was started anew"


async def test_a_deployment_that_was_accepted_just_before_is_done(world: World) -> None:
    await world.stop()
    await world.start(reconciling=False)
    deployment = await world.ask(await world.upload())
    await world.restart()
    assert (await world.finished(deployment["id"]))["state"] == "ready"


async def test_a_build_is_started_again_and_its_log_goes_on(world: World) -> None:
    world.builder.hold.clear()
    deployment = await world.ask(await world.upload())
    await log_of(world, deployment["build"], "resolving dependencies\n")
    await world.restart()
    world.builder.hold.set()
    assert (await world.finished(deployment["id"]))["state"] == "ready"
    stream = events((await world.client.get(f"/deployments/{deployment['id']}/events")).text)
    assert [data["line"] for _, event, data in stream if event == "log"] == [
        "resolving dependencies",
        steps.RESTARTED.strip(),
        "resolving dependencies",
        "environment is ready",
    ]


async def test_a_revision_that_was_starting_is_probed_again_under_its_number(world: World) -> None:
    world.platform.hold.clear()
    deployment = await world.ask(await world.upload())
    await world.platform.probing.wait()
    await world.restart()
    world.platform.hold.set()
    assert (await world.finished(deployment["id"]))["revision"] == "triage-00001"
    assert world.platform.probed == ["triage-00001", "triage-00001"]
    assert len(world.builder.requests) == 1


async def test_a_revision_that_was_ready_is_not_probed_again_and_traffic_set_since_stays(world: World) -> None:
    await world.deploy()
    world.platform.hold.clear()
    world.platform.probing.clear()
    deployment = await world.ask(await world.upload(code="b = 1\n"))
    await world.platform.probing.wait()
    await world.stop()
    await world.start(reconciling=False)
    [unfinished] = await world.database.read(lambda session: steps.unfinished(session, (ORGANIZATION, "triage")))
    await world.database.write(lambda session: steps.activate(session, unfinished, world.clock.now()))
    await world.client.post("/agents/triage/rollback", json={})
    await world.restart()
    assert (await world.finished(deployment["id"]))["state"] == "ready"
    assert world.platform.traffic("triage") == {"triage-00001": 100}
    assert world.platform.probed.count("triage-00002") == 1


async def test_a_failed_deployment_stays_failed_and_its_revision_is_not_served(world: World) -> None:
    await world.deploy()
    world.platform.failing["triage-00002"] = {"code": "broken", "status": 500}
    deployment = await world.deploy(code="b = 1\n")
    await world.restart()
    await world.agent_says(lambda: world.platform.desired)
    [agent] = world.platform.desired.values()
    assert [revision.name for revision in agent.revisions] == ["triage-00001"]
    assert (await world.get(f"/deployments/{deployment['id']}"))["state"] == "failed"


async def log_of(world: World, build: str, text: str) -> None:
    """Return when the build's log is `text`."""
    query = select(builds.c.log).where(builds.c.id == build)
    async with asyncio.timeout(10):
        while await world.database.read(lambda session: session.execute(query).scalar_one()) != text:
            await asyncio.sleep(0)
