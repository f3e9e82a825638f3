"""Who one is, members, invitations, service accounts, keys, grants."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api_server import MOMENT, TOKEN, FakePlatform, Reply, json_reply
from tests.unit.cli.conftest import Orchestrator

ADA = "0193a5b0-7c00-7000-8000-000000000002"
CI = "0193a5b0-7c00-7000-8000-000000000005"
KEY = "0193a5b0-7c00-7000-8000-000000000004"
PRINCIPAL = {"id": ADA, "kind": "person", "name": "Ada"}
MEMBER = {"id": ADA, "name": "Ada", "email": "ada@example.org", "role": "developer", "created_at": MOMENT}
ACCOUNT = {"id": CI, "name": "ci", "role": "viewer", "created_by": PRINCIPAL, "created_at": MOMENT}
ORGANIZATION = {"id": "o-1", "name": "acme", "created_at": MOMENT}
A_KEY = {
    "id": KEY,
    "name": "nightly",
    "principal": PRINCIPAL,
    "scopes": None,
    "created_by": None,
    "created_at": MOMENT,
    "expires_at": None,
    "last_used_at": None,
}
INVITATION = {
    "id": "i-1",
    "email": "ada@example.org",
    "role": "viewer",
    "state": "open",
    "created_by": PRINCIPAL,
    "created_at": MOMENT,
    "expires_at": MOMENT,
}


def serve(platform: FakePlatform, path: str, *items: Any) -> None:
    platform.answer(f"GET /api/v1{path}", json_reply({"items": list(items), "next": None}))


def test_whoami_says_who_where_and_what(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    said = {
        "principal": PRINCIPAL,
        "organization": ORGANIZATION,
        "role": "operator",
        "permissions": ["agents:read", "self:read"],
        "key": KEY,
        "scopes": None,
        "expires_at": MOMENT,
    }
    platform.answer("GET /api/v1/whoami", json_reply(said), json_reply(said))
    out = orchestrator("whoami").out
    assert "organization  acme" in out
    assert "permissions   agents:read, self:read" in out
    assert "key expires   2026-11-24" in out
    assert orchestrator("whoami", "-o", "json").json() == said


def test_organizations_are_listed_and_renamed(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    serve(platform, "/organizations", {**ORGANIZATION, "role": "owner", "current": True})
    assert orchestrator("organizations", "ls").out.splitlines()[1].split() == ["acme", "o-1", "owner", "yes"]
    platform.answer("PATCH /api/v1/organization", json_reply({**ORGANIZATION, "name": "new"}))
    assert orchestrator("organizations", "rename", "new").out == "The organization is called new now\n"
    assert platform.asked("PATCH /api/v1/organization")[0].json() == {"name": "new"}


@pytest.mark.parametrize("given", [ADA, "Ada", "ADA@example.org"])
def test_a_member_is_named_by_id_address_or_name(
    orchestrator: Orchestrator, platform: FakePlatform, given: str
) -> None:
    serve(platform, "/members", MEMBER)
    platform.answer(f"PATCH /api/v1/members/{ADA}", json_reply({**MEMBER, "role": "admin"}))
    assert orchestrator("members", "role", given, "admin").out == "Ada is admin now\n"


def test_a_name_that_several_have_or_nobody_is_a_usage_error(
    orchestrator: Orchestrator, platform: FakePlatform
) -> None:
    serve(platform, "/members", MEMBER, {**MEMBER, "id": CI})
    said = orchestrator("members", "role", "Ada", "admin")
    assert (said.code, "There are 2" in said.err) == (2, True)
    serve(platform, "/members", MEMBER)
    assert orchestrator("members", "role", "Bob", "admin").code == 2


def test_members_are_listed_and_removed_with_a_yes(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    serve(platform, "/members", MEMBER)
    assert orchestrator("members", "ls").out.splitlines()[1].split()[:3] == ["Ada", "ada@example.org", "developer"]
    assert orchestrator("members", "rm", ADA).code == 2
    platform.answer(f"DELETE /api/v1/members/{ADA}", Reply(status=204))
    assert orchestrator("members", "rm", ADA, "--yes").out == f"Removed {ADA}\n"


def test_an_invitation_prints_its_token_alone(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /api/v1/invitations", json_reply({**INVITATION, "token": "ori_x"}, 201))
    said = orchestrator("invitations", "create", "ada@example.org", "viewer", "--days", "3")
    assert said.out == "ori_x\n"
    assert "not shown again" in said.err
    [asked] = platform.asked("POST /api/v1/invitations")
    assert asked.json()["expires_at"] is not None
    serve(platform, "/invitations", INVITATION)
    assert "open" in orchestrator("invitations", "ls").out
    platform.answer("DELETE /api/v1/invitations/i-1", Reply(status=204))
    assert orchestrator("invitations", "revoke", "i-1").code == 0


def test_an_invitation_is_accepted_as_nobody_or_as_oneself(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    key = {"organization": ORGANIZATION, "role": "viewer", "token": "orc_new"}
    path = "POST /api/v1/invitations/accept"
    platform.answer(path, *[json_reply({"person": PRINCIPAL, "joined": key, "personal": None}, 201)] * 2)
    said = orchestrator("invitations", "accept", "ori_x", "--name", "Ada", "--email", "ada@example.org")
    assert said.out.splitlines()[1].split() == ["acme", "viewer", "orc_new"]
    assert orchestrator("invitations", "accept", "ori_x", "--as-me").code == 0
    new, known = platform.asked(path)
    assert "authorization" not in new.headers
    assert known.headers["authorization"] == f"Bearer {TOKEN}"
    assert orchestrator("invitations", "accept", "ori_x").code == 2


def test_service_accounts_are_made_listed_and_removed(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("POST /api/v1/service-accounts", json_reply(ACCOUNT, 201))
    assert "keys create --for ci" in orchestrator("service-accounts", "create", "ci", "viewer").out
    serve(platform, "/service-accounts", ACCOUNT)
    assert orchestrator("service-accounts", "ls").out.splitlines()[1].split()[:2] == ["ci", "viewer"]
    serve(platform, "/service-accounts", ACCOUNT)
    platform.answer(f"DELETE /api/v1/service-accounts/{CI}", Reply(status=204))
    assert orchestrator("service-accounts", "rm", "ci", "--yes").out == "Removed ci\n"


def test_a_key_prints_its_token_alone(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    made = {**A_KEY, "token": "orc_x"}
    platform.answer("POST /api/v1/keys", json_reply(made, 201))
    serve(platform, "/service-accounts", ACCOUNT)
    said = orchestrator("keys", "create", "nightly", "--scope", "runs:read", "--days", "9", "--for", "ci")
    assert said.out == "orc_x\n"
    body = platform.asked("POST /api/v1/keys")[0].json()
    assert (body["scopes"], body["service_account"]) == (["runs:read"], CI)
    platform.answer(f"POST /api/v1/keys/{KEY}/rotate", json_reply(made))
    assert orchestrator("keys", "rotate", KEY, "-o", "json").json()["token"] == "orc_x"
    platform.answer(f"DELETE /api/v1/keys/{KEY}", Reply(status=204))
    assert orchestrator("keys", "revoke", KEY).out == f"Revoked {KEY}\n"


def test_keys_are_listed_with_their_scopes_and_last_use(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    serve(platform, "/keys", A_KEY, {**A_KEY, "scopes": ["runs:read"], "last_used_at": MOMENT})
    _, first, second = orchestrator("keys", "ls").out.splitlines()
    assert first.split()[:5] == ["nightly", "Ada", "all", "–", "–"]
    assert second.split()[2] == "runs:read"
    assert "ago" in second


def test_a_grant_is_set_listed_and_taken_back(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    grants = f"/agents/triage/grants/{CI}"
    serve(platform, "/members", MEMBER)
    serve(platform, "/service-accounts", ACCOUNT)
    platform.answer(f"PUT /api/v1{grants}", Reply(status=204))
    assert orchestrator("grants", "set", "triage", "ci", "operator").out == "ci is operator of triage now\n"
    assert platform.asked(f"PUT /api/v1{grants}")[0].json() == {"role": "operator"}
    grant = {"principal": PRINCIPAL, "role": "operator", "created_by": PRINCIPAL, "created_at": MOMENT}
    serve(platform, "/agents/triage/grants", grant)
    assert orchestrator("grants", "ls", "triage").out.splitlines()[1].split()[:3] == ["Ada", "person", "operator"]
    platform.answer(f"DELETE /api/v1{grants}", Reply(status=204))
    assert orchestrator("grants", "rm", "triage", CI).code == 0


def test_an_agent_is_handed_over_and_its_owner_is_shown(orchestrator: Orchestrator, platform: FakePlatform) -> None:
    platform.answer("PUT /api/v1/agents/triage/owner", json_reply(PRINCIPAL))
    assert orchestrator("transfer", "triage", ADA).out == "triage belongs to Ada now\n"
    assert platform.asked("PUT /api/v1/agents/triage/owner")[0].json() == {"principal": ADA}
