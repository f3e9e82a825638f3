"""From an uploaded folder to a serving revision, as a client sees it."""

from __future__ import annotations

from orchestrator_runtime.contract.errors import Unprocessable
from tests.integration.api.world import World, events

UNRESOLVABLE = Unprocessable("No solution found", code="dependencies_unresolvable", hint="Correct them.")


async def test_a_folder_becomes_a_serving_revision(world: World) -> None:
    digest = await world.upload()
    answer = await world.client.post("/deployments", json={"digest": digest})
    assert answer.status_code == 202
    deployment = await world.finished(answer.json()["id"])
    assert (deployment["state"], deployment["revision"]) == ("ready", "triage-00001")
    assert deployment["url"] == "http://127.0.0.1:4100/agents/triage"
    assert world.platform.traffic("triage") == {"triage-00001": 100}


async def test_the_stream_tells_states_and_the_build_s_log_and_ends(world: World) -> None:
    deployment = await world.deploy()
    answer = await world.client.get(f"/deployments/{deployment['id']}/events")
    assert [(event, *data.values()) for _, event, data in events(answer.text)] == [
        ("state", "building"),
        ("log", "resolving dependencies"),
        ("log", "environment is ready"),
        ("state", "starting"),
        ("state", "ready"),
    ]


async def test_the_stream_goes_on_after_the_last_event_that_was_seen(world: World) -> None:
    deployment = await world.deploy()
    answer = await world.client.get(f"/deployments/{deployment['id']}/events", headers={"last-event-id": "3"})
    assert [number for number, _, _ in events(answer.text)] == ["4", "5"]


async def test_an_unchanged_version_is_not_deployed_again(world: World) -> None:
    first = await world.deploy()
    answer = await world.client.post("/deployments", json={"digest": first["digest"]})
    assert answer.status_code == 200
    assert (answer.json()["unchanged"], answer.json()["id"]) == (True, first["id"])
    assert len(world.builder.requests) == 1


async def test_asking_twice_while_it_is_under_way_is_one_deployment(world: World) -> None:
    world.builder.hold.clear()
    digest = await world.upload()
    first, second = await world.ask(digest), await world.ask(digest)
    world.builder.hold.set()
    assert first["id"] == second["id"]
    assert (await world.finished(first["id"]))["state"] == "ready"


async def test_a_version_that_nobody_uploaded_is_unknown(world: World) -> None:
    answer = await world.client.post("/deployments", json={"digest": "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (404, "version_unknown")


async def test_a_failed_build_says_why_and_the_previous_revision_keeps_serving(world: World) -> None:
    await world.deploy()
    digest = await world.upload(code="broken = 1\n")
    world.builder.failing[digest] = UNRESOLVABLE
    deployment = await world.finished((await world.ask(digest))["id"])
    assert (deployment["state"], deployment["problem"]["code"]) == ("failed", "dependencies_unresolvable")
    assert world.platform.traffic("triage") == {"triage-00001": 100}
    build = await world.get(f"/builds/{deployment['build']}")
    assert (build["state"], build["problem"]["code"]) == ("failed", "dependencies_unresolvable")
    stream = events((await world.client.get(f"/deployments/{deployment['id']}/events")).text)
    assert [event for _, event, _ in stream][-2:] == ["problem", "state"]


async def test_a_revision_that_does_not_start_says_why_and_the_previous_one_keeps_serving(world: World) -> None:
    await world.deploy()
    world.platform.failing["triage-00002"] = {"code": "entrypoint_not_importable", "status": 500, "detail": "no"}
    deployment = await world.deploy(code="import nothing\n")
    assert deployment["problem"]["code"] == "entrypoint_not_importable"
    assert world.platform.traffic("triage") == {"triage-00001": 100}
    revision = await world.get("/agents/triage/revisions/triage-00002")
    assert (revision["state"], revision["problem"]["code"]) == ("failed", "entrypoint_not_importable")


async def test_a_failed_version_can_be_tried_again(world: World) -> None:
    digest = await world.upload()
    world.builder.failing[digest] = UNRESOLVABLE
    assert (await world.finished((await world.ask(digest))["id"]))["state"] == "failed"
    world.builder.failing.clear()
    assert (await world.finished((await world.ask(digest))["id"]))["state"] == "ready"


async def test_a_newer_deployment_takes_the_place_of_one_that_still_builds(world: World) -> None:
    world.builder.hold.clear()
    older = await world.ask(await world.upload())
    newer = await world.ask(await world.upload(code="new = 1\n"))
    stopped = await world.finished(older["id"])
    assert (stopped["state"], stopped["problem"]["code"]) == ("failed", "superseded")
    world.builder.hold.set()
    assert (await world.finished(newer["id"]))["state"] == "ready"


async def test_a_newer_deployment_takes_the_place_of_one_that_still_starts(world: World) -> None:
    world.platform.hold.clear()
    older = await world.ask(await world.upload())
    await world.platform.probing.wait()
    newer = await world.ask(await world.upload(code="new = 1\n"))
    assert (await world.finished(older["id"]))["problem"]["code"] == "superseded"
    world.platform.hold.set()
    assert (await world.finished(newer["id"]))["revision"] == "triage-00002"
    assert world.platform.traffic("triage") == {"triage-00002": 100}


async def test_deployments_are_listed_in_pages_newest_first(world: World) -> None:
    made = [(await world.deploy(code=f"number = {number}\n"))["id"] for number in range(3)]
    first = await world.get("/deployments", limit=2, agent="triage")
    second = await world.get("/deployments", limit=2, cursor=first["next"])
    assert [one["id"] for one in first["items"] + second["items"]] == made[::-1]
    assert second["next"] is None


async def test_builds_are_listed_and_their_logs_kept(world: World) -> None:
    deployment = await world.deploy()
    [build] = (await world.get("/builds", agent="triage"))["items"]
    assert (build["id"], build["state"], build["environment"]) == (deployment["build"], "succeeded", "e" * 64)
    log = await world.client.get(f"/builds/{build['id']}/log")
    assert log.text == "resolving dependencies\nenvironment is ready\n"


async def test_what_does_not_exist_is_not_found(world: World) -> None:
    for path, code in {
        "/deployments/x": "deployment_unknown",
        "/deployments/x/events": "deployment_unknown",
        "/builds/x": "build_unknown",
        "/builds/x/log": "build_unknown",
        "/agents/x": "agent_unknown",
        "/agents/x/events": "agent_unknown",
        "/agents/x/revisions": "agent_unknown",
        "/agents/x/logs": "agent_unknown",
        f"/versions/{'0' * 64}": "version_unknown",
    }.items():
        answer = await world.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code)


async def test_a_build_gets_the_secrets_of_package_indexes_and_no_other(world: World) -> None:
    for name in ("UV_INDEX_PRIVATE_PASSWORD", "OPENAI_API_KEY"):
        await world.client.put(f"/secrets/{name}", json={"value": f"value of {name}"})
    await world.deploy()
    assert world.builder.requests[0].secrets == {"UV_INDEX_PRIVATE_PASSWORD": "value of UV_INDEX_PRIVATE_PASSWORD"}
