"""Secrets can be set, listed by name and removed, and never read back."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from control_api.store.tables import secrets
from orchestrator_runtime.contract.errors import Conflict
from tests.integration.api.world import ORGANIZATION, World

VALUE = "sk-very-secret"


async def put(world: World, name: str = "OPENAI_API_KEY", value: str = VALUE) -> int:
    return (await world.client.put(f"/secrets/{name}", json={"value": value})).status_code


async def test_a_secret_is_listed_without_its_value(world: World) -> None:
    assert await put(world) == 204
    assert await put(world, value="another") == 204
    [secret] = (await world.get("/secrets"))["items"]
    assert (secret["name"], secret["version"]) == ("OPENAI_API_KEY", 2)
    assert set(secret) == {"name", "version", "created_at", "updated_at"}


async def test_the_database_does_not_know_the_value(world: World) -> None:
    await put(world)
    sealed = await world.database.read(lambda session: session.execute(select(secrets.c.sealed)).scalar_one())
    assert VALUE.encode() not in bytes(sealed)


async def test_an_instance_gets_the_values_it_names(world: World) -> None:
    await put(world)
    assert await world.secrets.values(ORGANIZATION, ["OPENAI_API_KEY"]) == {"OPENAI_API_KEY": VALUE}
    assert await world.secrets.values(ORGANIZATION, []) == {}


async def test_a_secret_that_is_missing_is_named(world: World) -> None:
    await put(world)
    with pytest.raises(Conflict) as refused:
        await world.secrets.values(ORGANIZATION, ["OPENAI_API_KEY", "OTHER"])
    assert (refused.value.code, refused.value.extra["secrets"]) == ("secret_missing", ["OTHER"])


async def test_a_removed_secret_is_gone(world: World) -> None:
    await put(world)
    assert (await world.client.delete("/secrets/OPENAI_API_KEY")).status_code == 204
    again = await world.client.delete("/secrets/OPENAI_API_KEY")
    assert (again.status_code, again.json()["code"]) == (404, "secret_unknown")


async def test_secrets_are_listed_by_name_in_pages(world: World) -> None:
    for name in ("C", "A", "B"):
        await put(world, name)
    first = await world.get("/secrets", limit=2)
    second = await world.get("/secrets", limit=2, cursor=first["next"])
    assert [secret["name"] for secret in first["items"] + second["items"]] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("name", "body"), [("not a name", {"value": "x"}), ("A", {"value": ""}), ("A", {"value": "a\0b"}), ("A", {})]
)
async def test_what_cannot_be_a_variable_is_refused_without_repeating_it(
    world: World, name: str, body: dict[str, str]
) -> None:
    answer = await world.client.put(f"/secrets/{name}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "a\\u0000b" not in answer.text
