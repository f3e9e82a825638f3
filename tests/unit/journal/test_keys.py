"""Sealed values: only their own key opens them, only where they stood."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from control_api.store.keys import KEY_BYTES, MasterKey, OrganizationKey, load_master_key
from orchestrator_runtime.contract.errors import Conflict


@pytest.mark.parametrize("content", [b"", b"small", b"x" * 100_000, os.urandom(5000)])
def test_what_is_sealed_is_opened_again(content: bytes) -> None:
    key = OrganizationKey(b"k" * KEY_BYTES)
    sealed = key.seal(content, b"here")
    assert key.open(sealed, b"here") == content
    assert key.seal(content, b"here") != sealed


def test_what_compresses_is_stored_compressed() -> None:
    assert len(OrganizationKey(b"k" * KEY_BYTES).seal(b"x" * 100_000, b"")) < 1000


@pytest.mark.parametrize("change", ["key", "context", "bit"])
def test_anything_else_does_not_open_it(change: str) -> None:
    sealed = OrganizationKey(b"k" * KEY_BYTES).seal(b"secret", b"here")
    other = OrganizationKey((b"o" if change == "key" else b"k") * KEY_BYTES)
    if change == "bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(Conflict) as refused:
        other.open(sealed, b"there" if change == "context" else b"here")
    assert refused.value.code == "wrong_key"


def test_equal_contents_have_one_address_in_an_organization_and_another_elsewhere() -> None:
    mine, yours = OrganizationKey(b"k" * KEY_BYTES), OrganizationKey(b"o" * KEY_BYTES)
    assert mine.address(b"x") == mine.address(b"x") != yours.address(b"x")


def test_an_organization_s_key_is_wrapped_for_it_alone() -> None:
    master = MasterKey(b"m" * KEY_BYTES)
    wrapped = master.wrap(b"k" * KEY_BYTES, "org-1")
    assert master.unwrap(wrapped, "org-1") == b"k" * KEY_BYTES
    with pytest.raises(Conflict):
        master.unwrap(wrapped, "org-2")
    with pytest.raises(Conflict):
        MasterKey(b"n" * KEY_BYTES).unwrap(wrapped, "org-1")


def test_the_master_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = load_master_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_master_key(path).derive("x") == made.derive("x") != made.derive("y")
    assert [found.name for found in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize(("size", "mode"), [(KEY_BYTES, 0o640), (KEY_BYTES - 1, 0o600)])
def test_a_master_key_that_is_readable_or_cut_is_refused(tmp_path: Path, size: int, mode: int) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"k" * size)
    path.chmod(mode)
    with pytest.raises(Conflict) as refused:
        load_master_key(path)
    assert refused.value.code == "master_key_invalid"
