"""Keys: one master key in a file, one key per organization wrapped by it, one key per sealed blob derived from that.

Who reads the database without the file learns nothing, and one organization's key opens nothing of another's.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select

from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import organization_keys
from control_api.store.upsert import insert_missing
from orchestrator_runtime.contract.errors import Conflict, NotFound, Problem

KEY_BYTES = 32
SALT_BYTES = 16
NONCE = bytes(12)  # constant: every blob has a key of its own
WORTH_COMPRESSING = 1024  # bytes; below, zstd costs more than it saves
PLAIN, ZSTD = b"\0", b"\1"


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose; knowing it tells nothing about `key` (keyed BLAKE2b)."""
    return hashlib.blake2b(purpose, key=key, digest_size=KEY_BYTES).digest()


def sealing_failed(what: str) -> Problem:
    return Conflict(
        f"{what} cannot be opened with this key",
        code="wrong_key",
        hint="The key file does not belong to this database. Restore the one that was saved with it.",
    )


class MasterKey:
    """The secret of one installation."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def derive(self, purpose: str) -> bytes:
        return derive(self._key, purpose.encode())

    def wrap(self, key: bytes, organization: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + AESGCM(self.derive("wrap")).encrypt(nonce, key, organization.encode())

    def unwrap(self, wrapped: bytes, organization: str) -> bytes:
        """Raises `Conflict` (`wrong_key`) if another key, or for another organization, wrapped it."""
        try:
            return AESGCM(self.derive("wrap")).decrypt(wrapped[:12], wrapped[12:], organization.encode())
        except InvalidTag as error:
            raise sealing_failed("The organization's key") from error


def load_master_key(path: Path) -> MasterKey:
    """Read the key file; make it, mode 0600, where there is none.

    Raises `Conflict` (`master_key_invalid`) for a file of another size, or one that others may read.
    """
    if not path.exists():
        _create(path)
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise Conflict(
            f"{path} can be read by others",
            code="master_key_invalid",
            hint=f"Run `chmod 600 {path}`; if anyone may have read it, what it protects is no secret any more.",
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise Conflict(
            f"{path} holds {len(key)} bytes and not {KEY_BYTES}",
            code="master_key_invalid",
            hint="Restore the file from your backup. Without it, what is in the database cannot be read.",
        )
    return MasterKey(key)


def _create(path: Path) -> None:
    """Write a new key beside and link it into place, so that a crash leaves no half of one."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)
    finally:
        unfinished.unlink()


class OrganizationKey:
    """Seals and opens what belongs to one organization. `context` says where a blob stands; elsewhere it won't open."""

    def __init__(self, key: bytes) -> None:
        self._sealing = hashlib.blake2b(key=derive(key, b"seal"), digest_size=KEY_BYTES)
        self._addressing = derive(key, b"address")

    def address(self, content: bytes) -> bytes:
        """The same for the same content of this organization; nobody else can compute it."""
        return hashlib.blake2b(content, key=self._addressing, digest_size=KEY_BYTES).digest()

    def seal(self, content: bytes, context: bytes) -> bytes:
        """Compress if that helps, then encrypt under a key of its own. Equal contents give different results."""
        form = PLAIN
        if len(content) >= WORTH_COMPRESSING:
            compressed = zstandard.compress(content, 1)
            if len(compressed) < len(content):
                form, content = ZSTD, compressed
        salt = os.urandom(SALT_BYTES)
        return form + salt + self._cipher(salt).encrypt(NONCE, content, form + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises `Conflict` (`wrong_key`) if it was sealed with another key, stood elsewhere, or was changed."""
        form, salt = sealed[:1], sealed[1 : 1 + SALT_BYTES]
        try:
            content = self._cipher(salt).decrypt(NONCE, sealed[1 + SALT_BYTES :], form + context)
        except InvalidTag as error:
            raise sealing_failed("A stored value") from error
        return zstandard.decompress(content) if form == ZSTD else content

    def _cipher(self, salt: bytes) -> AESGCM:
        derived = self._sealing.copy()
        derived.update(salt)
        return AESGCM(derived.digest())


class OrganizationKeys:
    """Unwrapped keys, kept in memory; an organization gets its key when it is made."""

    def __init__(self, master: MasterKey) -> None:
        self._master = master
        self._keys: dict[str, OrganizationKey] = {}

    def create(self, session: WriteSession, organization: str) -> None:
        """Give the organization a key, unless it has one. Belongs into the transaction that makes the organization."""
        wrapped = self._master.wrap(os.urandom(KEY_BYTES), organization)
        insert_missing(session, organization_keys, {"organization": organization, "wrapped": wrapped})

    def of(self, session: ReadSession, organization: str) -> OrganizationKey:
        """Raises `NotFound` (`organization_unknown`), or `Conflict` (`wrong_key`) if another master key wrapped it."""
        known = self._keys.get(organization)
        if known is None:
            query = select(organization_keys.c.wrapped).where(organization_keys.c.organization == organization)
            wrapped = session.execute(query).scalar_one_or_none()
            if wrapped is None:
                raise NotFound(f"There is no organization {organization}", code="organization_unknown")
            known = self._keys[organization] = OrganizationKey(self._master.unwrap(wrapped, organization))
        return known
