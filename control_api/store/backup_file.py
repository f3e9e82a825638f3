"""The form of a backup: sealed as a stream, so that a large one needs no memory, and only the master key opens it.

    b"orchestrator-backup-1\n", length of the header (4 bytes), header (JSON: master, installation, key), chunks

A chunk is its length (4 bytes) and AES-256-GCM of up to 1 MiB. Its nonce counts, and says whether it is the last, so
none can be left out, moved, or cut off; the header is authenticated with each. `key` is the file's own, wrapped by the
installation key, which is there, too, wrapped by the master key: that is in no backup.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_api.store.keys import INSTALLATION, InstallationKey
from control_api.store.sealing import KEY_BYTES, unwrap, wrap
from domain.ports import MasterKey
from orchestrator_runtime.contract.errors import BadInput

MAGIC = b"orchestrator-backup-1\n"
CHUNK = 1024 * 1024
HEADER_LIMIT = 64 * 1024
TAG_BYTES = 16
LENGTH = struct.Struct(">I")
NONCE = struct.Struct(">3xQ?")
PURPOSE = "backup"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the header says."""

    master: str
    installation: bytes
    key: bytes
    header: bytes

    def opened(self, master: MasterKey) -> bytes:
        """The file's key. Raises what the master key raises."""
        return unwrap(master.unwrap(self.installation, INSTALLATION), self.key, PURPOSE)


def seal(source: BinaryIO, target: BinaryIO, installation: InstallationKey) -> None:
    """Write everything of `source`, sealed, to `target`."""
    key = os.urandom(KEY_BYTES)
    fields = {
        "master": installation.master,
        "installation": base64.b64encode(installation.wrapped).decode(),
        "key": base64.b64encode(wrap(installation.key, key, PURPOSE)).decode(),
    }
    header = json.dumps(fields).encode()
    target.write(MAGIC + LENGTH.pack(len(header)) + header)
    cipher = AESGCM(key)
    chunk = source.read(CHUNK)
    number = 0
    while True:
        following = source.read(CHUNK)
        sealed = cipher.encrypt(NONCE.pack(number, not following), chunk, header)
        target.write(LENGTH.pack(len(sealed)) + sealed)
        if not following:
            return
        chunk, number = following, number + 1


def read_header(source: BinaryIO) -> Sealed | None:
    """The header, and `source` behind it; None if this is no sealed backup. Raises `BadInput` (`backup_invalid`)."""
    if source.read(len(MAGIC)) != MAGIC:
        return None
    header = _exactly(source, HEADER_LIMIT)
    try:
        fields: dict[str, Any] = json.loads(header)
        installation, key = (base64.b64decode(fields[name]) for name in ("installation", "key"))
        return Sealed(str(fields["master"]), installation, key, header)
    except (ValueError, KeyError, TypeError) as error:  # whatever a file may hold there
        raise damaged() from error


def chunks(source: BinaryIO, sealed: Sealed, key: bytes) -> Iterator[bytes]:
    """The content behind the header. Raises `BadInput` (`backup_invalid`) where it was changed or cut off."""
    cipher = AESGCM(key)
    number = 0
    content: bytes | None = _exactly(source, CHUNK + TAG_BYTES)
    while content is not None:
        following = _next(source)
        try:
            yield cipher.decrypt(NONCE.pack(number, following is None), content, sealed.header)
        except InvalidTag as error:
            raise damaged() from error
        content, number = following, number + 1


def _next(source: BinaryIO) -> bytes | None:
    """The next chunk; None at the end of the file."""
    prefix = source.read(LENGTH.size)
    return None if not prefix else _announced(source, prefix, CHUNK + TAG_BYTES)


def _exactly(source: BinaryIO, limit: int) -> bytes:
    return _announced(source, source.read(LENGTH.size), limit)


def _announced(source: BinaryIO, prefix: bytes, limit: int) -> bytes:
    """What the length `prefix` announces; bounded, because the file may be anything."""
    if len(prefix) < LENGTH.size:
        raise damaged()
    (length,) = LENGTH.unpack(prefix)
    content = source.read(length) if length <= limit else b""
    if len(content) < length:
        raise damaged()
    return content


def damaged() -> BadInput:
    return BadInput(
        "The backup is damaged: it was changed, or its end is missing",
        code="backup_invalid",
        hint="Take another copy of it, or another backup.",
    )
