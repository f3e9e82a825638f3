"""Agents as they are shown, split, rolled back and deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from control_api.changes import agent_topic
from domain.deployment import RevisionState, RevisionStatus
from tests.integration.api.world import ORGANIZATION, World, events


async def test_an_agent_shows_what_serves(world: World) -> None:
    deployment = await world.deploy(manifest="version: 1.2.0\nscale: {max: 3}\n")
    agent = await world.get("/agents/triage")
    assert (agent["version"], agent["digest"], agent["state"]) == ("1.2.0", deployment["digest"], "idle")
    assert (agent["scale"]["max"], agent["access"]) == (3, "organization")
    assert agent["traffic"] == [{"revision": "triage-00001", "percent": 100, "tag": None}]
    assert [(one["name"], one["percent"]) for one in agent["revisions"]] == [("triage-00001", 100)]
    assert agent["url"] == "http://127.0.0.1:4100/agents/triage"


async def test_an_agent_shows_what_the_platform_observes(world: World) -> None:
    await world.deploy()
    observe(world, ready=2, protections={"seccomp": "in force"})
    world.platform.living.append(create_instance())
    agent = await world.get("/agents/triage")
    assert agent["state"] == "ready"
    shown = {**create_instance(), "started_at": "1970-01-01T00:00:01.500Z"}
    assert agent["instances"] == [shown]
    [revision] = (await world.get("/agents/triage/revisions"))["items"]
    assert (revision["ready_instances"], revision["protections"]) == (2, {"seccomp": "in force"})
    assert revision["instances"] == [shown]


async def test_an_agent_that_was_only_uploaded_is_not_there_yet(world: World) -> None:
    await world.upload()
    assert (await world.get("/agents"))["items"] == []
    assert (await world.client.get("/agents/triage")).status_code == 404


async def test_an_agent_that_never_served_shows_its_deployment(world: World) -> None:
    world.builder.hold.clear()
    deployment = await world.ask(await world.upload())
    agent = await world.get("/agents/triage")
    assert (agent["state"], agent["version"], agent["framework"]) == ("building", None, "plain")
    world.platform.failing["triage-00001"] = {"code": "broken", "status": 500}
    world.builder.hold.set()
    await world.finished(deployment["id"])
    assert (await world.get("/agents/triage"))["state"] == "failed"


async def test_callers_of_an_agent_that_never_served_hear_of_it_until_it_is_deleted(world: World) -> None:
    world.platform.failing["triage-00001"] = {"code": "broken", "status": 500}
    await world.deploy()
    await world.agent_says(lambda: [agent.revisions for agent in world.platform.desired.values()] == [()])
    await world.restart()
    await world.agent_says(lambda: [agent.revisions for agent in world.platform.desired.values()] == [()])
    await world.client.delete("/agents/triage")
    await world.agent_says(lambda: not world.platform.desired)


async def test_agents_are_listed_by_name_in_pages(world: World) -> None:
    for name in ("notes", "triage", "greeter"):
        await world.deploy(name)
    first = await world.get("/agents", limit=2)
    second = await world.get("/agents", limit=2, cursor=first["next"])
    assert [agent["name"] for agent in first["items"]] == ["greeter", "notes"]
    assert [agent["name"] for agent in second["items"]] == ["triage"]


async def test_revisions_are_listed_in_pages_newest_first(world: World) -> None:
    await deploy_three(world)
    first = await world.get("/agents/triage/revisions", limit=2)
    second = await world.get("/agents/triage/revisions", limit=2, cursor=first["next"])
    names = [revision["name"] for revision in first["items"] + second["items"]]
    assert names == ["triage-00003", "triage-00002", "triage-00001"]


async def test_a_revision_of_another_name_is_not_found(world: World) -> None:
    await world.deploy()
    answer = await world.client.get("/agents/triage/revisions/triage-00009")
    assert (answer.status_code, answer.json()["code"]) == (404, "revision_unknown")


async def test_calls_are_split_as_asked(world: World) -> None:
    await deploy_three(world)
    answer = await put_traffic(world, ("triage-00001", 90, None), ("triage-00003", 10, "canary"))
    assert answer.status_code == 200
    assert [(one["name"], one["percent"], one["tag"]) for one in answer.json()["revisions"]] == [
        ("triage-00003", 10, "canary"),
        ("triage-00002", 0, None),
        ("triage-00001", 90, None),
    ]
    await world.agent_says(lambda: world.platform.traffic("triage") == {"triage-00001": 90, "triage-00003": 10})


async def test_a_deployment_during_a_split_waits_for_its_share_and_is_not_repeated(world: World) -> None:
    await deploy_three(world)
    await put_traffic(world, ("triage-00001", 50, None), ("triage-00002", 50, None))
    deployment = await world.deploy(code="fourth = 1\n")
    assert world.platform.traffic("triage") == {"triage-00001": 50, "triage-00002": 50}
    assert (await world.ask(deployment["digest"]))["unchanged"] is True


@pytest.mark.parametrize(
    ("targets", "status", "code"),
    [
        ([("triage-00001", 90, None)], 422, "traffic_invalid"),
        ([("triage-00001", 50, None), ("triage-00001", 50, None)], 422, "traffic_invalid"),
        ([("triage-00001", 100, "a"), ("triage-00002", 0, "a")], 422, "traffic_invalid"),
        ([("triage-00009", 100, None)], 422, "revision_unknown"),
        ([("triage-00001", 101, None)], 422, "invalid_request"),
        ([], 422, "invalid_request"),
    ],
)
async def test_a_split_that_cannot_be_is_refused(
    world: World, targets: list[tuple[str, int, str | None]], status: int, code: str
) -> None:
    await deploy_three(world)
    answer = await put_traffic(world, *targets)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_failed_revision_gets_no_calls(world: World) -> None:
    await world.deploy()
    world.platform.failing["triage-00002"] = {"code": "broken", "status": 500}
    await world.deploy(code="broken = 1\n")
    answer = await put_traffic(world, ("triage-00002", 100, None))
    assert (answer.status_code, answer.json()["code"]) == (409, "revision_not_ready")


async def test_a_rollback_goes_to_the_ready_revision_before(world: World) -> None:
    await deploy_three(world)
    answer = await world.client.post("/agents/triage/rollback", json={})
    assert answer.json()["traffic"] == [{"revision": "triage-00002", "percent": 100, "tag": None}]
    await world.agent_says(lambda: world.platform.traffic("triage") == {"triage-00002": 100})
    again = await world.client.post("/agents/triage/rollback", json={"revision": "triage-00003"})
    assert again.json()["traffic"][0]["revision"] == "triage-00003"


async def test_there_may_be_nothing_to_roll_back_to(world: World) -> None:
    await world.deploy()
    answer = await world.client.post("/agents/triage/rollback", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_before")


async def test_after_a_rollback_the_newer_version_can_be_deployed_again(world: World) -> None:
    await deploy_three(world)
    digest = (await world.get("/agents/triage"))["digest"]
    await world.client.post("/agents/triage/rollback", json={})
    deployment = await world.finished((await world.ask(digest))["id"])
    assert (deployment["revision"], deployment["unchanged"]) == ("triage-00004", False)
    assert world.platform.traffic("triage") == {"triage-00004": 100}


async def test_a_deleted_agent_serves_nothing_and_its_name_is_free(world: World) -> None:
    digest = (await world.deploy())["digest"]
    assert (await world.client.delete("/agents/triage")).status_code == 204
    await world.agent_says(lambda: not world.platform.desired)
    assert (await world.client.get("/agents/triage")).status_code == 404
    assert (await world.client.delete("/agents/triage")).status_code == 404
    assert (await world.client.post("/deployments", json={"digest": digest})).json()["code"] == "version_unknown"
    again = await world.deploy()
    assert again["revision"] == "triage-00002", "no name of a revision is used twice"


async def test_deleting_an_agent_ends_its_deployment(world: World) -> None:
    world.builder.hold.clear()
    deployment = await world.ask(await world.upload())
    await world.client.delete("/agents/triage")
    assert (await world.finished(deployment["id"]))["problem"]["code"] == "agent_deleted"


async def test_the_stream_begins_with_the_state_now_and_goes_on_with_changes(world: World) -> None:
    await world.deploy()
    async with asyncio.timeout(10):
        following = asyncio.create_task(world.client.get("/agents/triage/events"))
        await watched(world)
        observe(world, ready=1)
        world.changes.publish(agent_topic(ORGANIZATION, "triage"))
        await watched(world)
        await world.client.delete("/agents/triage")
        stream = events((await following).text)
    states = [data["state"] for _, event, data in stream if event == "agent"]
    assert states[:2] in (["idle", "ready"], ["ready"])
    assert stream[-1][1:] == ("deleted", {"name": "triage"})
    assert all(identity for identity, event, _ in stream if event == "agent")


async def test_who_has_seen_the_state_hears_of_the_next_one_only(world: World) -> None:
    await world.deploy()
    first = await anext(world.agents.events(ORGANIZATION, "triage", last=None))
    again = world.agents.events(ORGANIZATION, "triage", last=first.id)
    following = asyncio.ensure_future(anext(again))
    await watched(world)
    assert not following.done()
    await world.client.delete("/agents/triage")
    async with asyncio.timeout(10):
        assert (await following).event == "deleted"


async def watched(world: World) -> None:
    """Let the stream read and wait again."""
    await world.get("/agents/triage")
    await world.get("/agents/triage")


def observe(world: World, *, ready: int, protections: dict[str, str] | None = None) -> None:
    world.platform.observed["triage-00001"] = RevisionStatus(
        "triage-00001", RevisionState.READY, ready_instances=ready, protections=protections or {}
    )


def create_instance() -> dict[str, Any]:
    return {"instance": "i-1", "revision": "triage-00001", "state": "ready", "started_at": 1.5, "pid": 4711}


async def deploy_three(world: World) -> None:
    for number in range(3):
        await world.deploy(code=f"number = {number}\n")


async def put_traffic(world: World, *targets: tuple[str, int, str | None]) -> Any:
    body = [{"revision": revision, "percent": percent, "tag": tag} for revision, percent, tag in targets]
    return await world.client.put("/agents/triage/traffic", json={"targets": body})
