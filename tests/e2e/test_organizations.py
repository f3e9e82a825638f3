"""Two organizations on one machine: each has an agent of the same name, and sees nothing of the other's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.e2e.platform import Installation, write_agent

CODE = """
import os
def handle(input):
    print("the log of", input["organization"])
    return {"whose": os.environ["WHOSE"]}
"""
MANIFEST = "secrets: [WHOSE]\n"


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody of one organization, with the CLI and over HTTP."""

    platform: Installation
    token: str
    organization: dict[str, Any]
    agent: str

    def cli(self, *arguments: str, **options: Any) -> str:
        environment = {**os.environ, "ORCHESTRATOR_TOKEN": self.token}
        return self.platform.cli(*arguments, environment=environment, **options)

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.platform.address, headers=headers, timeout=60, trust_env=False)

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(f"/api/v1{path}").raise_for_status().json()


@pytest.fixture
def both(either_platform: Installation, tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    """The owner of the first organization and one of another, each with an agent of the same name."""
    if os.geteuid() != 0:
        pytest.skip("only root can give each organization a user of its own")
    agent, email = f"whose-{uuid4().hex[:8]}", f"{uuid4().hex}@example.org"
    invitation = either_platform.cli("invitations", "create", email, "viewer").strip()
    said = either_platform.cli(
        "--output", "json", "invitations", "accept", invitation, "--name", "Eve", "--email", email
    )
    accepted = json.loads(said)
    us = Member(either_platform, either_platform.token, accepted["joined"]["organization"], agent)
    them = Member(either_platform, accepted["personal"]["token"], accepted["personal"]["organization"], agent)
    for member, whose in ((us, "ours"), (them, "theirs")):
        member.cli("secrets", "set", "WHOSE", input=whose)
        member.cli("deploy", str(write_agent(tmp_path / whose, name=agent, code=CODE, manifest=MANIFEST)))
    yield us, them
    us.cli("members", "rm", "--yes", email)


def call(member: Member, **headers: str) -> httpx.Response:
    with member.client() as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(f"/agents/{member.agent}", json={"organization": member.organization["id"]}, headers=sent)


def test_neither_sees_anything_of_the_other(both: tuple[Member, Member]) -> None:
    us, them = both
    answers = [call(member, orchestrator_session="talk").json() for member in both]
    assert [answer["whose"] for answer in answers] == ["ours", "theirs"]

    runs = [member.get(f"/runs?agent={us.agent}")["items"] for member in both]
    assert [len(found) for found in runs] == [1, 1]
    assert runs[0][0]["caller"] != runs[1][0]["caller"]
    for member, [foreign], other in ((us, runs[1], them), (them, runs[0], us)):
        logs = member.cli("logs", us.agent)
        assert f"the log of {member.organization['id']}" in logs
        assert other.organization["id"] not in logs
        with member.client() as client:
            for path in ("", "/events", "/steps", "/input", "/output", "/logs", "/events/1/content"):
                answer = client.get(f"/api/v1/runs/{foreign['id']}{path}")
                assert (answer.status_code, answer.json()["code"]) == (404, "run_unknown"), path
            for action in ("cancel", "retry"):
                assert client.post(f"/api/v1/runs/{foreign['id']}/{action}").status_code == 404
        assert [one["session"] for one in member.get("/sessions")["items"] if one["agent"] == us.agent] == ["talk"]
        assert [one["name"] for one in member.get("/secrets")["items"]].count("WHOSE") == 1
        owner = member.get(f"/agents/{us.agent}")["owner"]
        assert owner["id"] == member.get("/whoami")["principal"]["id"]
    them.cli("secrets", "rm", "WHOSE")
    assert "WHOSE" in us.cli("secrets", "ls")

    uids = json.loads((us.platform.home / "uids.json").read_text())
    assert uids[us.organization["id"]] != uids[them.organization["id"]]


def test_a_host_names_the_organization_and_a_private_agent_is_not_there_for_others(
    both: tuple[Member, Member],
) -> None:
    us, them = both
    theirs = f"{them.agent}.{them.organization['name']}.localhost"
    assert call(them, host=theirs).json()["whose"] == "theirs"
    refused = call(us, host=theirs)
    assert (refused.status_code, refused.json()["code"]) == (404, "agent_unknown")


def test_a_key_that_was_revoked_calls_nothing_any_more(both: tuple[Member, Member]) -> None:
    us, _ = both
    made = json.loads(us.cli("--output", "json", "keys", "create", "short", "--scope", "agents:invoke"))
    short = Member(us.platform, made["token"], us.organization, us.agent)
    assert call(short).status_code == 200
    us.cli("keys", "revoke", made["id"])
    assert call(short).status_code == 401


def test_a_member_who_was_removed_calls_nothing_any_more(both: tuple[Member, Member]) -> None:
    us, _ = both
    email = f"{uuid4().hex}@example.org"
    invitation = us.cli("invitations", "create", email, "operator").strip()
    body = {"token": invitation, "name": "Bob", "email": email}
    accepted = httpx.post(f"{us.platform.address}/api/v1/invitations/accept", json=body, trust_env=False).json()
    bob = Member(us.platform, accepted["joined"]["token"], us.organization, us.agent)
    assert call(bob).json()["whose"] == "ours"
    us.cli("members", "rm", "--yes", email)
    assert call(bob).status_code == 401
