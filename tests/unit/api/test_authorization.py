"""Every route declares exactly one permission, and keeps to it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from control_api.app import create_app
from control_api.authorization import (
    Allowed,
    Credential,
    Credentials,
    Ownership,
    Public,
    new_token,
    token_digest,
)
from control_api.errors import BEARER_CHALLENGE, BROWSER_CHALLENGE
from domain.roles import EVERYWHERE, PERMISSIONS, PUBLIC, Role
from tests.fakes.manual_clock import ManualClock

TOKEN, WEAK = new_token(), new_token()
APP = create_app(clock=ManualClock(), measure=lambda *measured: None)
APP.state.credentials = Credentials(
    [
        Credential("c-1", token_digest(TOKEN), "o-1", PERMISSIONS),
        Credential("c-2", token_digest(WEAK), "o-1", frozenset()),
    ]
)
ROUTES = {
    f"{method} {context.path}": context.original_route
    for context in iter_route_contexts(APP.routes)
    if isinstance(context.original_route, APIRoute)
    for method in sorted(context.original_route.methods or ())
}


def permissions(dependant: Dependant) -> Iterator[str]:
    if isinstance(dependant.call, Allowed | Public):
        yield dependant.call.permission
    for inner in dependant.dependencies:
        yield from permissions(inner)


def client(authorization: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": authorization} if authorization else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://server", headers=headers)


def test_there_are_routes_and_no_other_kind_of_them() -> None:
    assert len(ROUTES) > 30
    assert all(isinstance(context.original_route, APIRoute) for context in iter_route_contexts(APP.routes))


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_declares_one_permission(name: str) -> None:
    [permission] = permissions(ROUTES[name].dependant)
    assert permission in PERMISSIONS | PUBLIC


def test_one_operation_is_public_and_says_so() -> None:
    public = [name for name in ROUTES if set(permissions(ROUTES[name].dependant)) <= PUBLIC]
    assert public == ["POST /api/v1/invitations/accept"]


def test_every_permission_is_that_of_some_route() -> None:
    used = {permission for route in ROUTES.values() for permission in permissions(route.dependant)}
    assert PERMISSIONS - used == {"agents:invoke", "agents:create", "keys:manage"}  # the gateway's, and of services


@pytest.mark.parametrize("name", [name for name in ROUTES if "/invitations/accept" not in name])
async def test_nobody_gets_in_without_a_credential_or_without_the_permission(name: str) -> None:
    method, path = name.split(" ")
    path = path.replace("{", "").replace("}", "")
    async with client() as nobody, client(f"Bearer {WEAK}") as weak:
        refused = await nobody.request(method, path)
        forbidden = await weak.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"] in {BEARER_CHALLENGE, BROWSER_CHALLENGE}
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "permission_missing")


async def test_an_unknown_token_is_refused() -> None:
    async with client(f"Bearer {new_token()}") as stranger:
        answer = await stranger.get("/api/v1/agents")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/docs/swagger-ui-bundle.js", "/api/v1/openapi.json"])
async def test_a_browser_may_sign_in_to_the_documentation_and_only_there(path: str) -> None:
    basic = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    async with client(basic) as browser:
        assert (await browser.get(path)).status_code == 200
        assert (await browser.get("/api/v1/agents")).status_code == 401


async def test_the_documentation_asks_for_a_password_alone_because_chromium_understands_no_second_challenge() -> None:
    async with client() as browser:
        answer = await browser.get("/api/v1/docs")
    [challenge] = answer.headers.get_list("www-authenticate")
    assert challenge == BROWSER_CHALLENGE
    assert "Bearer" not in challenge


@pytest.mark.parametrize("header", ["Basic !!!", "Basic " + base64.b64encode(b"\xff").decode(), "Bearer", "Digest x"])
async def test_garbage_is_no_credential(header: str) -> None:
    async with client(header) as stranger:
        assert (await stranger.get("/api/v1/docs")).status_code == 401


async def test_an_unknown_path_and_an_unknown_method_are_problems() -> None:
    async with client(f"Bearer {TOKEN}") as owner:
        nowhere = await owner.get("/api/v1/nothing")
        method = await owner.patch("/api/v1/agents")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "unknown_path")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")


AGENT = Ownership("a-1", owner="p-1")


def credential(role: Role, *, principal: str = "p-2", scopes: set[str] | None = None, **granted: Role) -> Credential:
    permissions = EVERYWHERE[role] if scopes is None else EVERYWHERE[role] & scopes
    narrowed = None if scopes is None else frozenset(scopes)
    grants = {agent.replace("_", "-"): of for agent, of in granted.items()}
    return Credential("c", "d", "o", permissions, principal, role, narrowed, granted=grants)


def test_the_owner_of_an_agent_may_change_it_while_their_role_makes_agents() -> None:
    assert credential(Role.DEVELOPER, principal="p-1").may_on("agents:write", AGENT)
    assert not credential(Role.DEVELOPER).may_on("agents:write", AGENT)
    assert not credential(Role.OPERATOR, principal="p-1").may_on("agents:write", AGENT)


def test_nobody_is_the_owner_of_an_agent_without_one() -> None:
    assert not Credential("c", "d", "o", frozenset(), role=Role.DEVELOPER).may_on("agents:write", Ownership("a", None))


def test_a_grant_is_of_one_agent() -> None:
    granted = credential(Role.VIEWER, a_1=Role.DEVELOPER)
    assert granted.may_on("agents:write", AGENT)
    assert not granted.may_on("agents:share", AGENT)
    assert not granted.may_on("agents:write", Ownership("a-2", None))
    assert granted.may_somewhere("runs:write")
    assert not granted.may_somewhere("secrets:write")


def test_scopes_narrow_grants_and_ownership_too() -> None:
    narrow = credential(Role.DEVELOPER, principal="p-1", scopes={"agents:read"}, a_1=Role.ADMIN)
    assert not narrow.may_on("agents:write", AGENT)
    assert not narrow.may_somewhere("agents:write")
    assert credential(Role.DEVELOPER, principal="p-1", scopes={"agents:write"}).may_on("agents:write", AGENT)


@pytest.mark.parametrize("role", Role)
def test_nobody_gives_more_than_they_have(role: Role) -> None:
    given = [other for other in Role if credential(role).may_give(other)]
    assert given == list(Role)[: list(Role).index(role) + 1]
    assert not any(credential(role, scopes={"members:write"}).may_give(other) for other in Role)


def test_an_owner_of_another_organization_than_the_first_may_make_owners() -> None:
    elsewhere = Credential("c", "d", "o", EVERYWHERE[Role.OWNER] - {"backups:write", "metrics:read"}, role=Role.OWNER)
    assert elsewhere.may_give(Role.OWNER)


def test_a_key_opens_until_it_expires_and_each_use_is_noted_once() -> None:
    clock = ManualClock()
    end = clock.now() + timedelta(seconds=10)
    keys = Credentials([Credential("c", token_digest(TOKEN), "o", frozenset(), expires_at=end)], clock=clock)
    assert keys.find(TOKEN) is not None
    assert keys.take_used() == {token_digest(TOKEN): clock.now()}
    clock.advance(10)
    assert keys.find(TOKEN) is None
    assert keys.take_used() == {}


def test_the_credentials_of_one_organization_are_replaced_and_no_others() -> None:
    keys = Credentials([Credential("1", "a", "o-1", frozenset()), Credential("2", "b", "o-2", frozenset())])
    keys.replace("o-1", [Credential("3", "c", "o-1", frozenset())])
    assert {one.id for one in keys.all()} == {"2", "3"}
