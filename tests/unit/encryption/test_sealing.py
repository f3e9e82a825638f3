"""Sealed values: only their own key opens them, only where they stood, and only for their organization."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_api.store.sealing import KEY_BYTES, NONCE, OrganizationKey, derive, unwrap, wrap
from orchestrator_runtime.contract.errors import Conflict

FIRST, SECOND = b"1" * KEY_BYTES, b"2" * KEY_BYTES
KEY = OrganizationKey("org-1", {1: FIRST})


def sealed_by_the_first_program(content: bytes, context: bytes) -> bytes:
    """As values were sealed before keys had versions."""
    salt = os.urandom(16)
    key = hashlib.blake2b(salt, key=derive(FIRST, b"seal"), digest_size=KEY_BYTES).digest()
    return b"\0" + salt + AESGCM(key).encrypt(NONCE, content, b"\0" + context)


@pytest.mark.parametrize("content", [b"", b"small", b"x" * 100_000, os.urandom(5000)])
def test_what_is_sealed_is_opened_again(content: bytes) -> None:
    sealed = KEY.seal(content, b"here")
    assert KEY.open(sealed, b"here") == content
    assert KEY.seal(content, b"here") != sealed


def test_what_compresses_is_stored_compressed() -> None:
    assert len(KEY.seal(b"x" * 100_000, b"")) < 1000


@pytest.mark.parametrize("change", ["key", "organization", "context", "version", "form", "bit"])
def test_anything_else_does_not_open_it(change: str) -> None:
    key = OrganizationKey("org-1", {1: FIRST, 2: FIRST})
    sealed = key.seal(b"secret", b"here")
    if change == "bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    if change == "version":
        sealed = sealed[:1] + (1).to_bytes(4, "big") + sealed[5:]
    if change == "form":
        sealed = b"\3" + sealed[1:]
    other = OrganizationKey(
        "org-2" if change == "organization" else "org-1", dict.fromkeys((1, 2), SECOND if change == "key" else FIRST)
    )
    with pytest.raises(Conflict) as refused:
        other.open(sealed, b"there" if change == "context" else b"here")
    assert refused.value.code == "wrong_key"


@pytest.mark.parametrize("content", [b"small", b"x" * 100_000])
def test_an_older_version_opens_what_it_sealed_until_that_is_sealed_anew(content: bytes) -> None:
    sealed = KEY.seal(content, b"here")
    both = OrganizationKey("org-1", {1: FIRST, 2: SECOND})
    assert both.open(sealed, b"here") == content
    fresh = both.reseal(sealed, b"here")
    assert fresh.startswith(both.prefixes)
    assert not sealed.startswith(both.prefixes)
    assert OrganizationKey("org-1", {2: SECOND}).open(fresh, b"here") == content
    with pytest.raises(Conflict):
        OrganizationKey("org-1", {2: SECOND}).open(sealed, b"here")


def test_what_was_sealed_before_keys_had_versions_is_opened_and_sealed_anew() -> None:
    sealed = sealed_by_the_first_program(b"long ago", b"here")
    assert KEY.open(sealed, b"here") == b"long ago"
    both = OrganizationKey("org-1", {1: FIRST, 2: SECOND})
    assert both.open(both.reseal(sealed, b"here"), b"here") == b"long ago"


def test_equal_contents_have_one_address_in_an_organization_and_another_elsewhere() -> None:
    other = OrganizationKey("org-2", {1: SECOND})
    assert KEY.address(b"x") == KEY.address(b"x") != other.address(b"x")


def test_a_key_is_wrapped_for_one_context_by_one_key() -> None:
    wrapped = wrap(FIRST, b"content", "org-1")
    assert unwrap(FIRST, wrapped, "org-1") == b"content"
    for key, context in ((FIRST, "org-2"), (SECOND, "org-1")):
        with pytest.raises(Conflict):
            unwrap(key, wrapped, context)
