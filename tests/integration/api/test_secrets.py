"""Secrets can be set, listed by name and removed, and never read back."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from control_api.store.tables import secret_versions
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
    assert set(secret) == {"name", "version", "reference", "created_at", "updated_at"}


async def test_the_database_does_not_know_the_value(world: World) -> None:
    await put(world)
    sealed = await world.database.read(lambda session: session.execute(select(secret_versions.c.sealed)).scalar_one())
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


async def numbers(world: World) -> list[tuple[int, bool]]:
    items = (await world.get("/secrets/OPENAI_API_KEY/versions"))["items"]
    return [(item["version"], item["in_use"]) for item in items]


async def test_a_version_before_can_be_used_again_and_a_newer_one_set(world: World) -> None:
    for value in ("one", "two"):
        await put(world, value=value)
    answer = await world.client.post("/secrets/OPENAI_API_KEY/rollback", json={"version": 1})
    assert (answer.status_code, answer.json()["version"]) == (200, 1)
    assert await world.secrets.values(ORGANIZATION, ["OPENAI_API_KEY"]) == {"OPENAI_API_KEY": "one"}
    assert await numbers(world) == [(2, False), (1, True)]
    await put(world, value="three")
    assert await world.secrets.values(ORGANIZATION, ["OPENAI_API_KEY"]) == {"OPENAI_API_KEY": "three"}
    assert await numbers(world) == [(3, True), (2, False), (1, False)]


async def test_a_version_that_is_removed_is_gone_and_its_number_is_not_used_again(world: World) -> None:
    for value in ("one", "two"):
        await put(world, value=value)
    await world.client.post("/secrets/OPENAI_API_KEY/rollback", json={"version": 1})
    assert (await world.client.delete("/secrets/OPENAI_API_KEY/versions/2")).status_code == 204
    await put(world, value="three")
    assert await numbers(world) == [(3, True), (1, False)]


async def test_the_version_in_use_and_versions_that_are_not_there_are_refused(world: World) -> None:
    await put(world)
    in_use = await world.client.delete("/secrets/OPENAI_API_KEY/versions/1")
    assert (in_use.status_code, in_use.json()["code"]) == (409, "secret_version_in_use")
    for answer in (
        await world.client.delete("/secrets/OPENAI_API_KEY/versions/7"),
        await world.client.post("/secrets/OPENAI_API_KEY/rollback", json={"version": 7}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "secret_version_unknown")
    for answer in (
        await world.client.get("/secrets/OTHER/versions"),
        await world.client.post("/secrets/OTHER/rollback", json={"version": 1}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "secret_unknown")


async def test_the_ten_newest_versions_are_kept(world: World) -> None:
    for number in range(13):
        await put(world, value=str(number))
    assert [number for number, _ in await numbers(world)] == list(range(13, 3, -1))


async def test_a_removed_secret_begins_anew(world: World) -> None:
    await put(world)
    await put(world)
    await world.client.delete("/secrets/OPENAI_API_KEY")
    await put(world, value="another")
    assert await numbers(world) == [(1, True)]


@pytest.mark.parametrize(
    "reference", ["vault:openai", "vault:../other#x", "vault:/a#b", "vault:a//b#c", "https://x", ""]
)
async def test_what_is_no_reference_is_refused(world: World, reference: str) -> None:
    answer = await world.client.put("/secrets/A", json={"reference": reference})
    assert (answer.status_code, answer.json()["code"]) == (422, "reference_invalid")


async def test_without_a_vault_nothing_can_be_there(world: World) -> None:
    answer = await world.client.put("/secrets/A", json={"reference": "vault:openai#api_key"})
    assert (answer.status_code, answer.json()["code"]) == (409, "vault_not_set_up")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("not a name", {"value": "x"}),
        ("A", {"value": ""}),
        ("A", {"value": "a\0b"}),
        ("A", {}),
        ("A", {"value": "x", "reference": "vault:a#b"}),
    ],
)
async def test_what_cannot_be_a_variable_is_refused_without_repeating_it(
    world: World, name: str, body: dict[str, str]
) -> None:
    answer = await world.client.put(f"/secrets/{name}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "a\\u0000b" not in answer.text
