"""Members: who they are, what they may do, and that it ends at once."""

from __future__ import annotations

import asyncio

import pytest

from control_api.members import repository as members
from control_api.store.database import WriteSession
from domain.roles import Role
from tests.integration.api.world import ADDRESS, ORGANIZATION, World


async def test_members_are_listed_with_their_roles(world: World) -> None:
    await world.somebody(Role.VIEWER)
    items = (await world.get("/members"))["items"]
    assert [(one["name"], one["role"]) for one in items] == [("owner", "owner"), ("Ada", "viewer")]


async def test_a_new_role_counts_at_once(world: World) -> None:
    ada = await world.somebody(Role.VIEWER)
    assert (await ada.client.put("/secrets/KEY", json={"value": "x"})).status_code == 403
    changed = await world.client.patch(f"/members/{ada.id}", json={"role": "developer"})
    assert changed.json()["role"] == "developer"
    assert (await ada.client.put("/secrets/KEY", json={"value": "x"})).status_code == 204


async def test_the_keys_of_a_removed_member_stop_at_once_and_their_agents_are_handed_over(world: World) -> None:
    ada = await world.somebody(Role.DEVELOPER)
    await world.deploy_as(ada)
    await world.client.put(f"/agents/triage/grants/{ada.id}", json={"role": "admin"})
    assert (await world.get("/agents/triage"))["owner"]["name"] == "Ada"
    assert (await world.client.delete(f"/members/{ada.id}")).status_code == 204
    refused = await ada.client.get("/agents")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert (await world.get("/agents/triage"))["owner"]["name"] == "owner"
    assert (await world.get("/agents/triage/grants"))["items"] == []
    assert {one["principal"]["name"] for one in (await world.get("/keys"))["items"]} == {"owner"}
    assert ADDRESS in (await world.get("/agents/triage"))["url"]


async def test_the_agents_of_an_owner_who_leaves_are_handed_over_to_another(world: World) -> None:
    me = (await world.get("/whoami"))["principal"]["id"]
    await world.deploy()
    grace = await world.somebody(Role.OWNER, name="Grace")
    assert (await world.get("/agents/triage"))["owner"]["id"] == me
    assert (await world.client.delete(f"/members/{me}")).status_code == 204
    assert (await grace.client.get("/agents/triage")).json()["owner"]["id"] == grace.id


async def test_the_last_owner_can_neither_go_nor_become_less(world: World) -> None:
    me = (await world.get("/whoami"))["principal"]["id"]
    for answer in (
        await world.client.delete(f"/members/{me}"),
        await world.client.patch(f"/members/{me}", json={"role": "admin"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    second = await world.somebody(Role.OWNER, name="Grace")
    assert (await world.client.delete(f"/members/{me}")).status_code == 204
    last = await second.client.delete(f"/members/{second.id}")
    assert last.json()["code"] == "last_owner"


async def test_an_admin_neither_makes_nor_changes_nor_removes_an_owner(world: World) -> None:
    admin, other = await world.somebody(Role.ADMIN), await world.somebody(Role.OWNER)
    for answer in (
        await admin.client.patch(f"/members/{admin.id}", json={"role": "owner"}),
        await admin.client.patch(f"/members/{other.id}", json={"role": "viewer"}),
        await admin.client.delete(f"/members/{other.id}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "role_above")
    assert (await admin.client.patch(f"/members/{admin.id}", json={"role": "viewer"})).status_code == 200


async def test_a_member_of_another_organization_is_not_there(world: World) -> None:
    eve = await world.stranger()
    for answer in (
        await world.client.patch(f"/members/{eve.id}", json={"role": "viewer"}),
        await world.client.delete(f"/members/{eve.id}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "member_unknown")
    assert [one["name"] for one in (await eve.client.get("/members")).json()["items"]] == ["Eve"]


@pytest.mark.parametrize(
    "body", [{}, {"role": "god"}, {"role": "admin", "organization": "o-2"}, {"role": "admin", "id": "x"}]
)
async def test_nothing_but_the_role_can_be_set(world: World, body: dict[str, str]) -> None:
    ada = await world.somebody(Role.VIEWER)
    answer = await world.client.patch(f"/members/{ada.id}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_who_one_is_and_may_do_is_told(world: World) -> None:
    ada = await world.somebody(Role.OPERATOR)
    said = (await ada.client.get("/whoami")).json()
    assert (said["principal"]["name"], said["role"], said["organization"]["id"]) == ("Ada", "operator", ORGANIZATION)
    assert "runs:write" in said["permissions"]
    assert "agents:write" not in said["permissions"]


async def test_only_the_first_organization_has_what_concerns_all(world: World) -> None:
    eve = await world.stranger()
    said = (await eve.client.get("/whoami")).json()
    assert said["role"] == "owner"
    assert not {"backups:write", "metrics:read"} & set(said["permissions"])
    assert (await eve.client.post("/backups")).status_code == 403
    assert (await eve.client.get("/metrics")).status_code == 403


async def test_an_organization_is_renamed_unless_another_has_the_name(world: World) -> None:
    eve = await world.stranger()
    assert (await world.client.patch("/organization", json={"name": "acme"})).json()["name"] == "acme"
    assert world.directory.name_of(ORGANIZATION) == "acme"
    taken = await eve.client.patch("/organization", json={"name": "acme"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    for name in ("Acme", "a.b", "-a", "", "0193a5b0-7c00-7000-8000-000000000002"):
        assert (await world.client.patch("/organization", json={"name": name})).status_code == 422
    assert [one["name"] for one in (await world.get("/organizations"))["items"]] == ["acme"]


async def test_what_a_removed_member_follows_ends_before_the_next_event(world: World) -> None:
    await world.deploy()
    ada = await world.somebody(Role.VIEWER)
    following = asyncio.ensure_future(ada.client.get("/agents/triage/events"))
    await world.watched("triage")
    await world.client.delete(f"/members/{ada.id}")
    other = await world.somebody(Role.DEVELOPER, name="Bob")
    assert (await world.client.put("/agents/triage/owner", json={"principal": other.id})).status_code == 200
    async with asyncio.timeout(10):
        answer = await following
    assert "Bob" not in answer.text


async def test_a_change_counts_also_if_whoever_asked_for_it_has_gone(world: World) -> None:
    ada = await world.somebody(Role.VIEWER)
    leaving = asyncio.ensure_future(
        world.directory.change_in(ORGANIZATION, lambda session: members.remove(session, ORGANIZATION, ada.id))
    )
    await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(10):
        while world.directory.credentials.find(ada.token) is not None:
            await asyncio.sleep(0)
    assert leaving.cancelled()


async def test_a_change_that_fails_changes_nothing_that_is_known(world: World) -> None:
    ada = await world.somebody(Role.VIEWER)

    def fail(session: WriteSession) -> None:
        members.remove(session, ORGANIZATION, ada.id)
        raise LookupError("too late")

    with pytest.raises(LookupError):
        await world.directory.change_in(ORGANIZATION, fail)
    assert (await ada.client.get("/agents")).status_code == 200
