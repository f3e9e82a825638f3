"""What every place of master keys does: files, the environment, and Vault (a fake of its API, or a real one)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_api.encryption.environment import EnvironmentKeys
from control_api.encryption.files import FileKeys
from control_api.settings import Encryption
from control_api.vault.client import Vault
from control_api.vault.transit import TransitKeys
from domain.ports import MasterKeys
from orchestrator_runtime.contract.errors import Conflict
from tests.fakes.vault_server import vault


@pytest.fixture(params=["file", "environment", "vault"])
def masters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MasterKeys]:
    if request.param == "file":
        files = FileKeys(tmp_path / "master.key")
        files.create()
        yield files
    elif request.param == "environment":
        yield EnvironmentKeys(Encryption.model_validate({"key": base64.b64encode(b"m" * 32).decode()}))
    else:
        with vault() as running:
            yield TransitKeys(Vault(running.settings), running.settings)


def test_what_is_wrapped_is_unwrapped_again(masters: MasterKeys) -> None:
    key = masters.current()
    wrapped = key.wrap(b"content", "installation")
    assert b"content" not in wrapped
    assert masters.current().unwrap(wrapped, "installation") == b"content"


def test_it_is_unwrapped_for_its_own_context_alone(masters: MasterKeys) -> None:
    wrapped = masters.current().wrap(b"content", "installation")
    with pytest.raises(Conflict) as refused:
        masters.current().unwrap(wrapped, "elsewhere")
    assert refused.value.code == "wrong_key"


@pytest.mark.parametrize("foreign", [b"", b"nonsense", b"vault:v1:AAAA", b"\xff" * 60])
def test_what_another_key_wrapped_is_refused(masters: MasterKeys, foreign: bytes) -> None:
    with pytest.raises(Conflict) as refused:
        masters.current().unwrap(foreign, "installation")
    assert refused.value.code == "wrong_key"


def test_the_id_says_which_key_it_is_and_nothing_more(masters: MasterKeys) -> None:
    assert masters.current().id == masters.current().id
    assert masters.current().id == masters.known()[0].id


def test_a_renewed_key_is_known_and_current_once_the_database_has_it(masters: MasterKeys) -> None:
    before = masters.current()
    wrapped = before.wrap(b"before", "installation")
    try:
        renewed = masters.renew()
    except Conflict as refused:
        assert refused.code == "master_key_outside"  # noqa: PT017 - only where others make keys
        return
    again = renewed.wrap(b"after", "installation")
    assert masters.current().id == before.id
    masters.settle(renewed.id)
    assert masters.current().id == renewed.id
    assert masters.current().unwrap(again, "installation") == b"after"
    known = {key.id: key for key in masters.known()}
    assert known[before.id].unwrap(wrapped, "installation") == b"before"


def test_a_renewal_that_the_database_never_saw_leaves_the_key_as_it_was(masters: MasterKeys) -> None:
    before = masters.current()
    wrapped = before.wrap(b"before", "installation")
    try:
        masters.renew()
    except Conflict as refused:
        assert refused.code == "master_key_outside"  # noqa: PT017 - only where others make keys
    masters.settle(before.id)
    assert masters.current().id == before.id
    assert masters.current().unwrap(wrapped, "installation") == b"before"
