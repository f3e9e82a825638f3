"""Every operation of the OpenAPI document, as every role, as nobody, and with another organization's identifiers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.roles import EVERYWHERE, PUBLIC, Role
from tests.integration.server.every_operation import CANARY, Installation, installation, operations

NEEDED = {name: str(operation["x-permission"]) for name, operation in operations().items()}
"""Operation -> permission; those that take something away are the last."""
IN_ORDER = sorted(NEEDED, key=lambda name: (name.startswith("DELETE"), not name.startswith("GET"), name))
MADE_ANEW = {"PUT /api/v1/secrets/{name}"}
"""What a stranger makes in their own organization, because the name is free there."""
LISTED = {"GET /api/v1/agents/{name}/sessions"}
"""A list of what belongs to a name; empty if there is none."""
OF_ANY_AGENT = {"POST /api/v1/versions"}
"""Who makes agents may upload one that is new."""
MISSING = {"permission_missing", "unauthenticated"}


@pytest.fixture
async def here(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    monkeypatch.setattr("local.platform.gateway_channel.GATEWAY_WAIT", 0.0)  # none comes, so nobody waits for one
    async with installation(database_url, tmp_path) as made:
        yield made


def allowed(name: str, role: Role) -> bool:
    makes = name in OF_ANY_AGENT and "agents:create" in EVERYWHERE[role]
    return makes or NEEDED[name] in EVERYWHERE[role] | PUBLIC


def test_there_are_operations() -> None:
    assert len(IN_ORDER) > 55


async def test_nobody_and_no_role_below_gets_in_or_changes_anything(here: Installation) -> None:
    before = await here.rows()
    for name in IN_ORDER:
        if NEEDED[name] not in PUBLIC:
            answer = await here.ask(name, None)
            assert (answer.status, answer.code) == (401, "unauthenticated"), name
        for role in Role:
            if not allowed(name, role):
                answer = await here.ask(name, role)
                assert (answer.status, answer.code) == (403, "permission_missing"), (name, role)
        assert await here.rows() == before, name


async def test_every_role_gets_in_that_the_table_names(here: Installation) -> None:
    for name in IN_ORDER:
        for role in Role:
            if allowed(name, role):
                answer = await here.ask(name, role)
                assert answer.status < 500 or answer.status == 503, (name, role, answer)
                assert answer.code not in MISSING, (name, role, answer)


async def test_another_organization_s_identifiers_lead_nowhere(here: Installation) -> None:
    before = await here.rows()
    for name in (*(name for name in IN_ORDER if name not in MADE_ANEW), *MADE_ANEW):
        answer = await here.ask(name, "stranger")
        assert await here.rows() == before, name
        assert CANARY.encode() not in answer.body, name
        assert here.first.encode() not in answer.body, name
        if "{" in name and name not in MADE_ANEW | LISTED:
            assert answer.status == 404, (name, answer)
