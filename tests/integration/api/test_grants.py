"""Agents have owners; others act on them by their role or by a grant."""

from __future__ import annotations

import httpx
import pytest

from domain.roles import Role
from tests.integration.api.world import World, pack


async def test_who_makes_an_agent_owns_it_and_other_developers_may_not_change_it(world: World) -> None:
    ada, bob = await world.somebody(Role.DEVELOPER), await world.somebody(Role.DEVELOPER, name="Bob")
    digest = await world.deploy_as(ada)
    assert (await bob.client.get("/agents/triage")).json()["owner"] == {
        "id": ada.id,
        "kind": "person",
        "name": "Ada",
    }
    for refused in (
        await bob.client.delete("/agents/triage"),
        await bob.client.post("/deployments", json={"digest": digest}),
        await bob.client.post("/versions", content=pack(code="mine = 1\n")),
        await bob.client.put("/agents/triage/owner", json={"principal": bob.id}),
        await bob.client.put(f"/agents/triage/grants/{bob.id}", json={"role": "admin"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_missing")
    assert (await bob.client.delete("/agents/nobody")).status_code == 404
    assert (await ada.client.delete("/agents/triage")).status_code == 204


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_a_role_that_makes_no_agents_uploads_none(world: World, role: Role) -> None:
    somebody = await world.somebody(role)
    assert (await somebody.client.post("/versions", content=pack())).status_code == 403


async def test_a_viewer_with_a_grant_works_on_that_agent_and_no_other(world: World) -> None:
    await world.deploy()
    await world.deploy("other")
    ada = await world.somebody(Role.VIEWER)
    path = f"/agents/triage/grants/{ada.id}"
    assert (await world.client.put(path, json={"role": "developer"})).status_code == 204
    [grant] = (await world.get("/agents/triage/grants"))["items"]
    assert (grant["principal"]["name"], grant["role"], grant["created_by"]["name"]) == ("Ada", "developer", "owner")
    uploaded = await ada.client.post("/versions", content=pack(code="new = 1\n"))
    assert uploaded.status_code == 201
    assert (await ada.client.post("/deployments", json={"digest": uploaded.json()["digest"]})).status_code == 202
    assert (await ada.client.post("/versions", content=pack("other", code="new = 1\n"))).status_code == 403
    assert (await ada.client.post("/versions", content=pack("fresh"))).status_code == 403
    assert (await ada.client.delete("/agents/other")).status_code == 403
    assert invocable(world, ada.token) == {"triage"}
    assert (await world.client.delete(path)).status_code == 204
    assert (await ada.client.delete("/agents/triage")).status_code == 403
    assert invocable(world, ada.token) == set()
    assert (await world.client.delete(path)).json()["code"] == "grant_unknown"


async def test_a_grant_ends_with_its_agent_also_if_another_of_the_name_comes(world: World) -> None:
    await world.deploy()
    ada = await world.somebody(Role.VIEWER)
    await world.client.put(f"/agents/triage/grants/{ada.id}", json={"role": "operator"})
    assert (await world.client.delete("/agents/triage")).status_code == 204
    assert invocable(world, ada.token) == set()
    await world.deploy(code="again = 1\n")
    assert (await world.get("/agents/triage/grants"))["items"] == []


async def test_an_agent_is_handed_over_to_one_who_may_have_it(world: World) -> None:
    await world.deploy()
    ada, bob = await world.somebody(Role.DEVELOPER), await world.somebody(Role.VIEWER, name="Bob")
    refused = await world.client.put("/agents/triage/owner", json={"principal": bob.id})
    assert (refused.status_code, refused.json()["code"]) == (409, "owner_makes_none")
    assert (await world.client.put("/agents/triage/owner", json={"principal": ada.id})).json()["name"] == "Ada"
    assert (await ada.client.put(f"/agents/triage/grants/{bob.id}", json={"role": "operator"})).status_code == 204
    await world.client.patch(f"/members/{ada.id}", json={"role": "operator"})
    lowered = await ada.client.delete("/agents/triage")
    assert lowered.status_code == 403


async def test_nobody_of_another_organization_gets_a_grant_or_an_agent(world: World) -> None:
    await world.deploy()
    eve = await world.stranger()
    answers: list[httpx.Response] = [
        await world.client.put("/agents/triage/owner", json={"principal": eve.id}),
        await world.client.put(f"/agents/triage/grants/{eve.id}", json={"role": "viewer"}),
    ]
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(404, "principal_unknown")}
    assert (await eve.client.get("/agents/triage/grants")).json()["code"] == "agent_unknown"


async def test_nobody_is_made_an_owner_of_the_organization_by_a_grant(world: World) -> None:
    await world.deploy()
    ada = await world.somebody(Role.VIEWER)
    for body in ({"role": "owner"}, {"role": "viewer", "created_by": ada.id}, {}):
        assert (await world.client.put(f"/agents/triage/grants/{ada.id}", json=body)).status_code == 422


def invocable(world: World, token: str) -> set[str]:
    """What the gateway is told."""
    found = world.directory.credentials.find(token)
    assert found is not None
    return set(found.invocable)
