"""Master keys that are wrong, missing or readable by others, and Vaults that do not answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_api.encryption.environment import EnvironmentKeys
from control_api.encryption.files import FileKeys
from control_api.encryption.sources import master_keys
from control_api.settings import Encryption, Settings, VaultSettings
from control_api.vault.client import PAUSES, Vault
from control_api.vault.transit import TransitKeys
from orchestrator_runtime.contract.errors import BadInput, Problem
from tests.fakes.vault_server import RunningVault, vault
from tests.integration.postgres import free_port

VALID = base64.b64encode(b"m" * 32).decode()


def code_of(refused: pytest.ExceptionInfo[Problem]) -> str:
    return refused.value.code


def test_the_first_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    FileKeys(path).create()
    made = FileKeys(path).current().id
    FileKeys(path).create()
    assert FileKeys(path).current().id == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize(("size", "mode"), [(32, 0o640), (31, 0o600)])
def test_a_file_that_is_readable_or_cut_is_refused(tmp_path: Path, size: int, mode: int) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"k" * size)
    path.chmod(mode)
    with pytest.raises(Problem) as refused:
        FileKeys(path).current()
    assert code_of(refused) == "master_key_invalid"


def test_a_missing_file_is_not_made_where_there_are_data(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(Problem) as refused:
        master_keys(settings, is_new=False).current()
    assert code_of(refused) == "master_key_missing"
    assert list(tmp_path.iterdir()) == []
    assert master_keys(settings, is_new=True).current()


@pytest.mark.parametrize("value", ["", "no base64!", base64.b64encode(b"short").decode()])
def test_a_variable_that_is_no_key_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(Problem) as refused:
        EnvironmentKeys(Encryption.model_validate({"key": value})).current()
    assert code_of(refused) == "master_key_invalid"
    assert not value or value not in str(refused.value.document())


def test_a_variable_that_is_not_set_is_missing() -> None:
    with pytest.raises(Problem) as refused:
        EnvironmentKeys(Encryption()).current()
    assert code_of(refused) == "master_key_missing"


def test_a_key_has_the_same_id_wherever_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "master.key").write_bytes(b"m" * 32)
    (tmp_path / "master.key").chmod(0o600)
    moved = EnvironmentKeys(Encryption.model_validate({"key": VALID}))
    assert FileKeys(tmp_path / "master.key").current().id == moved.current().id


def test_a_source_that_is_left_still_unwraps(tmp_path: Path) -> None:
    FileKeys(tmp_path / "master.key").create()
    former = FileKeys(tmp_path / "master.key").current()
    values: dict[str, Any] = {"source": "environment", "key": VALID}
    settings = Settings(home=tmp_path, encryption=Encryption.model_validate(values))
    masters = master_keys(settings, is_new=False)
    assert masters.current().id != former.id
    assert {key.id for key in masters.known()} == {masters.current().id, former.id}


def test_vault_without_an_address_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, encryption=Encryption(source="vault"))
    with pytest.raises(BadInput) as refused:
        master_keys(settings, is_new=False)
    assert "ORCHESTRATOR_VAULT_ADDRESS" in refused.value.detail


@pytest.fixture
def running() -> Iterator[RunningVault]:
    with vault() as started:
        yield started


class Pauses:
    """Waits in no time, and does something after the first."""

    def __init__(self, then: Any = lambda: None) -> None:
        self.seconds: list[float] = []
        self._then = then

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == 1:
            self._then()


def keys(settings: VaultSettings, pauses: Pauses) -> TransitKeys:
    return TransitKeys(Vault(settings, pause=pauses), settings)


def test_a_sealed_vault_is_asked_a_bounded_number_of_times(running: RunningVault) -> None:
    pauses = Pauses()
    running.seal()
    with pytest.raises(Problem) as refused:
        keys(running.settings, pauses).current().wrap(b"x", "here")
    assert code_of(refused) == "vault_sealed"
    assert tuple(pauses.seconds) == PAUSES
    running.unseal()


def test_a_vault_that_is_unsealed_meanwhile_answers(running: RunningVault) -> None:
    running.seal()
    key = keys(running.settings, Pauses(running.unseal)).current()
    assert key.unwrap(key.wrap(b"x", "here"), "here") == b"x"


def test_a_vault_that_is_not_there_is_asked_a_bounded_number_of_times() -> None:
    pauses = Pauses()
    settings = VaultSettings.model_validate({"address": f"http://127.0.0.1:{free_port()}", "token": "t"})
    with pytest.raises(Problem) as refused:
        keys(settings, pauses).current().wrap(b"x", "here")
    assert code_of(refused) == "vault_unreachable"
    assert tuple(pauses.seconds) == PAUSES


def test_a_token_that_vault_does_not_know_is_refused_at_once(running: RunningVault) -> None:
    pauses = Pauses()
    settings = VaultSettings.model_validate({"address": running.address, "token": "canary-token"})
    with pytest.raises(Problem) as refused:
        keys(settings, pauses).current().wrap(b"x", "here")
    assert code_of(refused) == "vault_denied"
    assert pauses.seconds == []
    assert "canary" not in str(refused.value.document())


def test_the_token_s_file_is_read_again_for_each_call(running: RunningVault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = VaultSettings(address=running.address, token_file=file)
    with pytest.raises(Problem) as refused:
        keys(settings, Pauses()).current().wrap(b"x", "here")
    assert code_of(refused) == "vault_denied"
    key = keys(settings, Pauses()).current()
    assert running.settings.token is not None
    file.write_text(running.settings.token.get_secret_value() + "\n")
    assert key.unwrap(key.wrap(b"x", "here"), "here") == b"x"


def test_another_vault_s_key_of_the_same_name_does_not_open_it(running: RunningVault) -> None:
    wrapped = keys(running.settings, Pauses()).current().wrap(b"x", "here")
    with vault() as other, pytest.raises(Problem) as refused:
        keys(other.settings, Pauses()).current().unwrap(wrapped, "here")
    assert code_of(refused) == "wrong_key"
