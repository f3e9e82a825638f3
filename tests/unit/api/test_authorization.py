"""Every route declares exactly one permission, and keeps to it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from control_api.app import create_app
from control_api.authorization import PERMISSIONS, Allowed, Credential, Credentials, new_token, token_digest
from control_api.errors import BEARER_CHALLENGE, BROWSER_CHALLENGE
from tests.fakes.manual_clock import ManualClock

TOKEN, WEAK = new_token(), new_token()
APP = create_app(clock=ManualClock(), measure=lambda *measured: None)
APP.state.credentials = Credentials(
    [
        Credential("c-1", token_digest(TOKEN), "o-1", frozenset({"*"})),
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
    if isinstance(dependant.call, Allowed):
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
    assert permission in PERMISSIONS


@pytest.mark.parametrize("name", ROUTES)
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
