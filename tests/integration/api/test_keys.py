"""API keys: scopes, ends, rotation, use; and service accounts, whose keys are made by others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from control_api.store.tables import credentials
from domain.roles import Role
from tests.integration.api.world import Somebody, World


async def make(world: World, by: httpx.AsyncClient, **members: Any) -> Somebody:
    answer = await by.post("/keys", json={"name": "k", **members})
    assert answer.status_code == 201, answer.text
    key = answer.json()
    return Somebody(key["id"], "", key["token"], world.client_of(key["token"]))


async def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_key_is_shown_once_and_the_database_knows_its_digest_only(world: World) -> None:
    key = await make(world, world.client)
    listed = (await world.get("/keys"))["items"]
    assert [one["name"] for one in listed] == ["k", "owner"]
    assert "token" not in listed[0]
    stored = await world.database.read(lambda session: session.execute(select(credentials)).all())
    assert key.token not in str(stored)


async def test_a_key_out_of_scope_is_refused(world: World) -> None:
    key = await make(world, world.client, scopes=["runs:read", "agents:read"])
    assert (await key.client.get("/agents")).status_code == 200
    assert await code(await key.client.get("/secrets")) == (403, "permission_missing")
    said = (await key.client.get("/whoami")).json()
    assert (said["scopes"], said["permissions"]) == (
        ["agents:read", "runs:read"],
        ["agents:read", "runs:read", "self:read"],
    )


async def test_a_scope_gives_nothing_that_the_role_has_not(world: World) -> None:
    ada = await world.somebody(Role.VIEWER)
    key = await make(world, ada.client, scopes=["secrets:write", "secrets:read"])
    assert (await key.client.get("/secrets")).status_code == 200
    assert (await key.client.put("/secrets/KEY", json={"value": "x"})).status_code == 403


async def test_an_expired_key_opens_nothing(world: World) -> None:
    end = world.clock.now() + timedelta(hours=1)
    key = await make(world, world.client, expires_at=end.isoformat())
    assert (await key.client.get("/agents")).status_code == 200
    world.clock.advance(3600)
    assert await code(await key.client.get("/agents")) == (401, "unauthenticated")


async def test_a_revoked_key_opens_nothing(world: World) -> None:
    key = await make(world, world.client)
    assert (await world.client.delete(f"/keys/{key.id}")).status_code == 204
    assert await code(await key.client.get("/agents")) == (401, "unauthenticated")
    assert await code(await world.client.delete(f"/keys/{key.id}")) == (404, "key_unknown")


async def test_a_rotated_key_has_another_token_and_is_the_same_otherwise(world: World) -> None:
    key = await make(world, world.client, scopes=["agents:read"])
    rotated = (await world.client.post(f"/keys/{key.id}/rotate")).json()
    assert (rotated["id"], rotated["scopes"]) == (key.id, ["agents:read"])
    assert (await key.client.get("/agents")).status_code == 401
    assert (await world.client_of(rotated["token"]).get("/agents")).status_code == 200


async def test_a_key_makes_none_that_may_do_more_or_lasts_longer(world: World) -> None:
    end = (world.clock.now() + timedelta(hours=1)).isoformat()
    broad = await make(world, world.client)
    narrow = await make(world, world.client, scopes=["keys:write", "agents:read"], expires_at=end)
    for members in ({"scopes": ["secrets:read"]}, {"expires_at": "2999-01-01T00:00:00Z"}):
        assert await code(await narrow.client.post("/keys", json={"name": "k", **members})) == (403, "key_exceeds")
    assert await code(await narrow.client.post(f"/keys/{broad.id}/rotate")) == (403, "key_exceeds")
    child = (await narrow.client.post("/keys", json={"name": "k"})).json()
    assert child["scopes"] == ["agents:read", "keys:write"]
    assert child["expires_at"] is not None


async def test_one_sees_and_ends_one_s_own_keys_and_who_manages_them_all(world: World) -> None:
    ada, admin = await world.somebody(Role.VIEWER), await world.somebody(Role.ADMIN)
    key = await make(world, ada.client)
    other = await make(world, world.client)
    assert {one["id"] for one in (await ada.client.get("/keys")).json()["items"]} >= {key.id}
    assert {one["principal"]["id"] for one in (await ada.client.get("/keys")).json()["items"]} == {ada.id}
    assert await code(await ada.client.delete(f"/keys/{other.id}")) == (404, "key_unknown")
    assert await code(await admin.client.delete(f"/keys/{other.id}")) == (403, "role_above")
    assert await code(await admin.client.post(f"/keys/{key.id}/rotate")) == (403, "key_of_another")
    assert (await admin.client.delete(f"/keys/{key.id}")).status_code == 204
    assert (await key.client.get("/agents")).status_code == 401


async def test_the_key_of_the_home_folder_is_not_for_the_api_to_end(world: World) -> None:
    home = (await world.get("/keys"))["items"][-1]["id"]
    assert await code(await world.client.delete(f"/keys/{home}")) == (409, "key_of_home")
    assert await code(await world.client.post(f"/keys/{home}/rotate")) == (409, "key_of_home")


async def test_a_key_of_another_organization_is_not_there(world: World) -> None:
    eve, key = await world.stranger(), await make(world, world.client)
    assert await code(await eve.client.delete(f"/keys/{key.id}")) == (404, "key_unknown")
    assert await code(await eve.client.post(f"/keys/{key.id}/rotate")) == (404, "key_unknown")
    assert (await key.client.get("/agents")).status_code == 200


async def test_the_last_use_is_written_late_and_shown(world: World) -> None:
    key = await make(world, world.client)
    await key.client.get("/agents")
    assert (await world.get("/keys"))["items"][0]["last_used_at"] is None
    await world.write_use()
    assert (await world.get("/keys"))["items"][0]["last_used_at"] is not None
    await world.write_use()


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": ["nothing:read"]},
        {"expires_at": "2000-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"principal": "x"},
        {"organization": "o-2"},
        {"token": "orc_mine"},
        {"name": "\0"},
    ],
)
async def test_what_a_key_is_not_is_refused(world: World, wrong: dict[str, Any]) -> None:
    assert (await world.client.post("/keys", json={"name": "k", **wrong})).status_code == 422


async def account(world: World, by: httpx.AsyncClient, role: str = "developer", name: str = "ci") -> str:
    answer = await by.post("/service-accounts", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_service_account_has_a_role_and_keys_until_it_is_removed(world: World) -> None:
    made = await account(world, world.client)
    key = await make(world, world.client, service_account=made)
    said = (await key.client.get("/whoami")).json()
    assert (said["principal"]["kind"], said["role"]) == ("service-account", "developer")
    assert [one["name"] for one in (await key.client.get("/organizations")).json()["items"]] == ["default"]
    assert (await world.client.delete(f"/service-accounts/{made}")).status_code == 204
    assert (await key.client.get("/whoami")).status_code == 401
    assert (await world.get("/service-accounts"))["items"] == []


async def test_a_name_is_that_of_one_service_account(world: World) -> None:
    await account(world, world.client)
    again = await world.client.post("/service-accounts", json={"name": "ci", "role": "viewer"})
    assert await code(again) == (409, "name_taken")


async def test_nobody_makes_a_service_account_or_a_key_of_one_above_them(world: World) -> None:
    admin, ada, eve = await world.somebody(Role.ADMIN), await world.somebody(Role.VIEWER), await world.stranger()
    above = await account(world, world.client, role="owner")
    named = {"name": "up", "role": "owner"}
    assert await code(await admin.client.post("/service-accounts", json=named)) == (403, "role_above")
    wanted = {"name": "k", "service_account": above}
    assert await code(await admin.client.post("/keys", json=wanted)) == (403, "role_above")
    assert await code(await ada.client.post("/keys", json=wanted)) == (403, "permission_missing")
    assert await code(await eve.client.post("/keys", json=wanted)) == (404, "service_account_unknown")
    assert await code(await admin.client.delete(f"/service-accounts/{above}")) == (403, "role_above")
    assert await code(await eve.client.delete(f"/service-accounts/{above}")) == (404, "service_account_unknown")
