"""What every answer of the API says to browsers."""

from __future__ import annotations

import re

import httpx
import pytest

from control_api.app import create_app
from control_api.authorization import Credential, Credentials, new_token, token_digest
from domain.roles import PERMISSIONS
from tests.fakes.manual_clock import ManualClock

TOKEN = new_token()
APP = create_app(clock=ManualClock(), measure=lambda *measured: None)
APP.state.credentials = Credentials([Credential("c-1", token_digest(TOKEN), "o-1", PERMISSIONS)])
SITE = {"origin": "https://elsewhere.example"}


def client(**headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    given = {"authorization": f"Bearer {TOKEN}", **headers}
    return httpx.AsyncClient(transport=transport, base_url="http://server", headers=given)


def policy(answer: httpx.Response) -> dict[str, str]:
    """The directives of the content policy."""
    directives = (one.strip().partition(" ") for one in answer.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in directives}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/openapi.json",
        "/api/v1/agents",
        "/api/v1/nothing",
        "/elsewhere",
        "/api/v1/docs",
        "/api/v1/docs/start.js",
    ],
)
@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", "Bearer wrong"], ids=["right", "wrong"])
async def test_every_answer_is_data_for_nobody_else(path: str, authorization: str) -> None:
    """Also errors, also one that nobody planned for (the services of this application are missing)."""
    async with client(authorization=authorization) as opened:
        answer = await opened.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert policy(answer)["default-src"] == "'none'"
    assert policy(answer)["frame-ancestors"] == "'none'"
    assert policy(answer)["base-uri"] == policy(answer)["form-action"] == "'none'"
    assert all(len(answer.headers.get_list(name)) == 1 for name in answer.headers)


async def test_the_documentation_s_page_loads_scripts_of_this_origin_and_has_none_of_its_own() -> None:
    async with client() as opened:
        page = await opened.get("/api/v1/docs")
        assert policy(page)["script-src"] == policy(page)["style-src"] == policy(page)["connect-src"] == "'self'"
        assert not re.search(r"<script(?! src=)|\son\w+=|javascript:|//", page.text.replace("<!doctype", ""))
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) == 4
        for one in loaded:
            asset = await opened.get(f"/api/v1/{one}")
            assert asset.status_code == 200
            assert asset.headers["content-type"].partition(";")[0] in {"text/css", "text/javascript", "image/png"}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_no_other_origin_is_let_in(method: str) -> None:
    asked = {"access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    async with client(**SITE, **asked) as opened:
        answer = await opened.request(method, "/api/v1/openapi.json")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_redirect_stays_with_the_scheme_that_the_caller_came_by(scheme: str) -> None:
    async with client(**{"x-forwarded-proto": scheme, "host": "agents.example"}) as opened:
        answer = await opened.get("/api/v1/agents/")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{scheme}://agents.example/api/v1/agents")
