"""Invitations: one person, one time, for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from domain.roles import Role
from tests.integration.api.world import World

EMAIL = "ada@example.org"


async def invite(world: World, *, by: httpx.AsyncClient | None = None, **members: Any) -> dict[str, Any]:
    answer = await (by or world.client).post("/invitations", json={"email": EMAIL, "role": "developer", **members})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def accept(world: World, invitation: dict[str, Any], **members: Any) -> httpx.Response:
    body = {"token": invitation["token"], "name": "Ada", "email": EMAIL, **members}
    return await world.client_of(None).post("/invitations/accept", json=body)


async def test_who_accepts_becomes_a_person_with_an_organization_of_their_own(world: World) -> None:
    answer = await accept(world, await invite(world))
    assert answer.status_code == 201, answer.text
    accepted = answer.json()
    joined, personal = (world.client_of(accepted[key]["token"]) for key in ("joined", "personal"))
    here, own = [(await client.get("/whoami")).json() for client in (joined, personal)]
    assert (here["role"], here["organization"]["name"]) == ("developer", "default")
    assert (own["role"], own["organization"]["name"]) == ("owner", "ada")
    assert here["principal"] == own["principal"]
    listed = (await joined.get("/organizations")).json()["items"]
    assert [(one["name"], one["current"]) for one in listed] == [("ada", False), ("default", True)]
    assert (await personal.put("/secrets/KEY", json={"value": "sealed with a key of its own"})).status_code == 204


async def test_a_personal_organization_gets_a_name_that_nobody_has(world: World) -> None:
    names = []
    for number in range(2):
        email = f"{number}@example.org"
        answer = await accept(world, await invite(world, email=email), email=email, name="9 Default!")
        names.append(answer.json()["personal"]["organization"]["name"])
    assert names[0].startswith("default-")
    assert len({*names, "default"}) == 3


async def test_an_invitation_works_once(world: World) -> None:
    invitation = await invite(world)
    assert (await accept(world, invitation)).status_code == 201
    again = await accept(world, invitation)
    assert (again.status_code, again.json()["code"]) == (409, "invitation_used")
    assert (await world.get("/invitations"))["items"][0]["state"] == "accepted"
    assert (await world.client.delete(f"/invitations/{invitation['id']}")).json()["code"] == "invitation_used"


async def test_an_invitation_ends(world: World) -> None:
    invitation = await invite(world)
    world.clock.advance(timedelta(days=7).total_seconds())
    late = await accept(world, invitation)
    assert (late.status_code, late.json()["code"]) == (409, "invitation_expired")
    assert (await world.get("/invitations"))["items"][0]["state"] == "expired"


async def test_an_invitation_is_for_one_address_however_it_is_written(world: World) -> None:
    invitation = await invite(world)
    another = await accept(world, invitation, email="eve@example.org")
    assert (another.status_code, another.json()["code"]) == (403, "invitation_of_another")
    assert (await accept(world, invitation, email=" ADA@Example.org ")).status_code == 201


async def test_a_revoked_invitation_is_worth_nothing(world: World) -> None:
    invitation = await invite(world)
    assert (await world.client.delete(f"/invitations/{invitation['id']}")).status_code == 204
    assert (await accept(world, invitation)).json()["code"] == "invitation_revoked"


async def test_a_token_that_nobody_made_is_unknown(world: World) -> None:
    answer = await accept(world, {"token": "ori_guessed"})
    assert (answer.status_code, answer.json()["code"]) == (404, "invitation_unknown")


async def test_invitations_of_one_who_is_removed_or_lowered_are_revoked(world: World) -> None:
    for change in ("patch", "delete"):
        admin = await world.somebody(Role.ADMIN)
        invitation = await invite(world, by=admin.client)
        body = {"json": {"role": "viewer"}} if change == "patch" else {}
        assert (await world.client.request(change, f"/members/{admin.id}", **body)).is_success  # type: ignore[arg-type]
        assert (await accept(world, invitation)).json()["code"] == "invitation_revoked"


async def test_who_is_known_joins_with_a_key_and_has_one_for_each_organization(world: World) -> None:
    eve = await world.stranger()
    first = (await accept(world, await invite(world))).json()
    there = await invite(world, by=eve.client, role="viewer")
    unknown = await accept(world, there)
    assert (unknown.status_code, unknown.json()["code"]) == (409, "person_known")
    ada = world.client_of(first["joined"]["token"])
    joined = await ada.post("/invitations/accept", json={"token": there["token"]})
    assert joined.status_code == 201, joined.text
    assert joined.json()["personal"] is None
    said = (await world.client_of(joined.json()["joined"]["token"]).get("/whoami")).json()
    assert (said["organization"]["name"], said["role"]) == ("others", "viewer")
    assert said["principal"] == first["person"]
    assert (await ada.get("/whoami")).json()["role"] == "developer"


async def test_a_key_of_somebody_else_or_a_narrow_one_or_of_a_program_accepts_nothing(world: World) -> None:
    first = (await accept(world, await invite(world))).json()
    ada, eve = world.client_of(first["joined"]["token"]), await world.stranger()
    there = await invite(world, by=eve.client)
    account = (await world.client.post("/service-accounts", json={"name": "ci", "role": "admin"})).json()["id"]
    of_account = (await world.client.post("/keys", json={"name": "k", "service_account": account})).json()["token"]
    narrow = (await ada.post("/keys", json={"name": "k", "scopes": ["runs:read"]})).json()["token"]
    body = {"token": there["token"], "name": "Ada", "email": EMAIL}
    grace = await world.somebody(Role.VIEWER, name="Grace")
    other = await invite(world, by=eve.client, email="grace@example.org")
    assert (await grace.client.post("/invitations/accept", json={"token": other["token"]})).status_code == 201
    for token, code in (
        (of_account, "permission_missing"),
        (narrow, "permission_missing"),
        (grace.token, "invitation_of_another"),
        ("orc_unknown", "unauthenticated"),
    ):
        assert (await world.client_of(token).post("/invitations/accept", json=body)).json()["code"] == code


async def test_a_member_is_not_invited_again(world: World) -> None:
    invitation = await invite(world)
    second = await invite(world)
    accepted = (await accept(world, invitation)).json()
    answer = await world.client.post("/invitations", json={"email": EMAIL, "role": "viewer"})
    assert (answer.status_code, answer.json()["code"]) == (409, "member_already")
    ada = world.client_of(accepted["joined"]["token"])
    assert (await ada.post("/invitations/accept", json={"token": second["token"]})).json()["code"] == "member_already"


async def test_nobody_invites_to_a_role_above_their_own(world: World) -> None:
    admin = await world.somebody(Role.ADMIN)
    answer = await admin.client.post("/invitations", json={"email": EMAIL, "role": "owner"})
    assert (answer.status_code, answer.json()["code"]) == (403, "role_above")


@pytest.mark.parametrize("days", [-1, 31])
async def test_an_invitation_is_open_for_some_days_to_come(world: World, days: int) -> None:
    at = (world.clock.now() + timedelta(days=days)).isoformat()
    answer = await world.client.post("/invitations", json={"email": EMAIL, "role": "viewer", "expires_at": at})
    assert (answer.status_code, answer.json()["code"]) == (422, "expiry_invalid")


@pytest.mark.parametrize(
    "wrong", [{"email": "nobody"}, {"role": "god"}, {"organization": "o-2"}, {"created_by": "x"}, {"expires_at": 0}]
)
async def test_what_an_invitation_is_not_is_refused(world: World, wrong: dict[str, Any]) -> None:
    answer = await world.client.post("/invitations", json={"email": EMAIL, "role": "viewer", **wrong})
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid_request"), (422, "expiry_invalid")}


async def test_without_a_credential_one_says_who_one_is(world: World) -> None:
    answer = await accept(world, await invite(world), name=None)
    assert (answer.status_code, answer.json()["code"]) == (422, "person_missing")


async def test_an_invitation_s_token_is_not_shown_again_and_another_organization_sees_none(world: World) -> None:
    invitation, eve = await invite(world), await world.stranger()
    assert "token" not in (await world.get("/invitations"))["items"][0]
    assert (await eve.client.get("/invitations")).json()["items"] == []
    foreign = await eve.client.delete(f"/invitations/{invitation['id']}")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "invitation_unknown")
