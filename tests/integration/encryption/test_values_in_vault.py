"""Secrets whose values stay in Vault: an organization reads below its own folder; a Vault that is away stops none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from control_api.encryption.files import FileKeys
from control_api.secrets.outside import FRESH, OutsideValues
from control_api.secrets.service import SecretsService
from control_api.vault.client import Vault
from control_api.vault.kv import KeyValues
from orchestrator_runtime.contract.errors import Problem
from tests.fakes.manual_clock import ManualClock
from tests.fakes.vault_server import RunningVault, vault
from tests.integration.encryption.rotating import ORGANIZATION, started
from tests.integration.encryption.values import fill

OTHER = "org-2"
REFERENCE = "vault:team/openai#api_key"


@pytest.fixture
def running() -> Iterator[RunningVault]:
    with vault() as opened:
        opened.put(f"orchestrator/{ORGANIZATION}/team/openai", api_key="sk-first", other="x", empty="")
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def secrets(
    database_url: str, masters: FileKeys, running: RunningVault, clock: ManualClock
) -> AsyncIterator[SecretsService]:
    values = KeyValues(Vault(running.settings, pause=lambda seconds: None), running.settings)
    async with started(database_url, masters) as server:
        for organization in (ORGANIZATION, OTHER):
            await server.database.write(partial(fill, keys=server.keys, organization=organization, rows=0))
        yield SecretsService(
            database=server.database, keys=server.keys, clock=clock, outside=OutsideValues(values, clock=clock)
        )


async def value(secrets: SecretsService) -> str:
    return (await secrets.values(ORGANIZATION, ["KEY"]))["KEY"]


async def refusal(secrets: SecretsService, reference: str, organization: str = ORGANIZATION) -> str:
    with pytest.raises(Problem) as refused:
        await secrets.refer(organization, "KEY", reference)
    return refused.value.code


async def test_an_instance_gets_what_is_in_vault_when_it_starts(
    secrets: SecretsService, running: RunningVault, clock: ManualClock
) -> None:
    await secrets.refer(ORGANIZATION, "KEY", REFERENCE)
    assert await value(secrets) == "sk-first"
    running.put(f"orchestrator/{ORGANIZATION}/team/openai", api_key="sk-second")
    clock.advance(FRESH)
    assert await value(secrets) == "sk-second"


async def test_values_of_both_kinds_are_delivered_together(secrets: SecretsService) -> None:
    await secrets.refer(ORGANIZATION, "KEY", REFERENCE)
    await secrets.put(ORGANIZATION, "OWN", "mine")
    assert await secrets.values(ORGANIZATION, ["KEY", "OWN"]) == {"KEY": "sk-first", "OWN": "mine"}


async def test_nobody_can_name_what_is_another_organization_s(secrets: SecretsService) -> None:
    assert await refusal(secrets, REFERENCE, OTHER) == "vault_missing"
    assert await refusal(secrets, f"vault:../{ORGANIZATION}/team/openai#api_key", OTHER) == "reference_invalid"


@pytest.mark.parametrize("reference", ["vault:team/none#api_key", "vault:team/openai#none", "vault:team/openai#empty"])
async def test_what_is_not_there_is_refused_when_it_is_set(secrets: SecretsService, reference: str) -> None:
    assert await refusal(secrets, reference) == "vault_missing"


async def test_the_last_value_is_used_while_vault_is_sealed(
    secrets: SecretsService, running: RunningVault, clock: ManualClock
) -> None:
    await secrets.refer(ORGANIZATION, "KEY", REFERENCE)
    running.seal()
    clock.advance(FRESH)
    assert await value(secrets) == "sk-first"
    assert await refusal(secrets, "vault:team/openai#other") == "vault_sealed"
    running.unseal()


async def test_the_database_knows_where_a_value_is_and_not_what_it_is(
    secrets: SecretsService, database_url: str
) -> None:
    await secrets.refer(ORGANIZATION, "KEY", REFERENCE)
    [version] = (await secrets.versions(ORGANIZATION, "KEY")).items
    assert version.reference == REFERENCE
    if database_url.startswith("sqlite"):
        path = Path(database_url.removeprefix("sqlite:///"))
        files = [path, path.with_name(path.name + "-wal")]
        assert not any(b"sk-first" in file.read_bytes() for file in files if file.exists())
