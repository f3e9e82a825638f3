"""Sealed values: encrypted with AES-256-GCM, each under a key of its own, bound to its organization and its place.

Only bytes and keys: who has which key is in `control_api.store.keys`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator_runtime.contract.errors import Conflict, Problem

KEY_BYTES = 32
SALT_BYTES = 16
VERSION_BYTES = 4
NONCE_BYTES = 12
NONCE = bytes(NONCE_BYTES)  # constant: every blob has a key of its own
WORTH_COMPRESSING = 1024  # bytes; below, zstd costs more than it saves
FIRST_ZSTD, PLAIN, ZSTD = b"\1", b"\2", b"\3"
"""How a blob is stored. Nothing writes 0 (plain) and 1 any more: they are of version 1 of a key and do not name it."""
COMPRESSED = frozenset({FIRST_ZSTD, ZSTD})


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose; knowing it tells nothing about `key` (keyed BLAKE2b)."""
    return hashlib.blake2b(purpose, key=key, digest_size=KEY_BYTES).digest()


def wrap(key: bytes, content: bytes, context: str) -> bytes:
    """Encrypt another key."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(derive(key, b"wrap")).encrypt(nonce, content, context.encode())


def unwrap(key: bytes, wrapped: bytes, context: str) -> bytes:
    """Raises `Conflict` (`wrong_key`) if another key, or for another context, wrapped it."""
    try:
        return AESGCM(derive(key, b"wrap")).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short to be one of ours
        raise wrong_key("A key in the database") from error


def wrong_key(what: str) -> Problem:
    return Conflict(
        f"{what} cannot be opened with this key",
        code="wrong_key",
        hint="The master key does not belong to this database. Restore the one that was saved with it.",
    )


class OrganizationKey:
    """Seals and opens what belongs to one organization. `context` says where a blob stands; elsewhere it won't open."""

    def __init__(self, organization: str, keys: Mapping[int, bytes]) -> None:
        """`keys` by version: the highest one seals, all open."""
        self.version = max(keys)
        version = self.version.to_bytes(VERSION_BYTES, "big")
        self.prefixes = (PLAIN + version, ZSTD + version)
        """How everything begins that the newest version has sealed."""
        self._organization = organization.encode() + b"\0"
        self._sealing = {
            number: hashlib.blake2b(key=derive(key, b"seal"), digest_size=KEY_BYTES) for number, key in keys.items()
        }
        self._addressing = derive(keys[self.version], b"address")

    def address(self, content: bytes) -> bytes:
        """The same for the same content of this organization, until its key is rotated; nobody else can compute it."""
        return hashlib.blake2b(content, key=self._addressing, digest_size=KEY_BYTES).digest()

    def seal(self, content: bytes, context: bytes) -> bytes:
        """Compress if that helps, then encrypt under a key of its own. Equal contents give different results."""
        plain, zstd = self.prefixes
        if len(content) >= WORTH_COMPRESSING:
            compressed = zstandard.compress(content, 1)
            if len(compressed) < len(content):
                return self._encrypt(zstd, compressed, context)
        return self._encrypt(plain, content, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises `Conflict` (`wrong_key`) if it was sealed with another key, stood elsewhere, or was changed."""
        content = self._decrypt(sealed, context)
        return zstandard.decompress(content) if sealed[:1] in COMPRESSED else content

    def reseal(self, sealed: bytes, context: bytes) -> bytes:
        """The same content, sealed by the newest version. Raises as `open` does."""
        return self._encrypt(self.prefixes[sealed[:1] in COMPRESSED], self._decrypt(sealed, context), context)

    def _encrypt(self, prefix: bytes, content: bytes, context: bytes) -> bytes:
        salt = os.urandom(SALT_BYTES)
        authenticated = prefix + self._organization + context
        return prefix + salt + self._cipher(self.version, salt).encrypt(NONCE, content, authenticated)

    def _decrypt(self, sealed: bytes, context: bytes) -> bytes:
        start, version, authenticated = 1, 1, sealed[:1] + context
        if sealed[:1] in {PLAIN, ZSTD}:
            start += VERSION_BYTES
            version = int.from_bytes(sealed[1:start], "big")
            authenticated = sealed[:start] + self._organization + context
        salt = sealed[start : start + SALT_BYTES]
        try:
            return self._cipher(version, salt).decrypt(NONCE, sealed[start + SALT_BYTES :], authenticated)
        except (InvalidTag, KeyError) as error:  # KeyError: that version has been destroyed
            raise wrong_key("A stored value") from error

    def _cipher(self, version: int, salt: bytes) -> AESGCM:
        derived = self._sealing[version].copy()
        derived.update(salt)
        return AESGCM(derived.digest())
