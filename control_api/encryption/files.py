"""Master keys in files of mode 0600, in the home folder:

master.key        the one that wraps
master.key.next   one that is being put in its place; which of the two it is then, the database says
master.key.ID     former ones: they open backups that are older than the rotation, and nothing else
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from control_api.encryption.local_key import LocalKey
from control_api.store.sealing import KEY_BYTES
from domain.ports import MasterKey
from orchestrator_runtime.contract.errors import Conflict


class FileKeys:
    """`domain.ports.MasterKeys` in files beside `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = path.with_name(f"{path.name}.next")

    def create(self) -> None:
        """Make the first key, unless there is a file."""
        if not self._path.exists():
            _write(self._path)

    def current(self) -> MasterKey:
        if not self._path.exists():
            raise Conflict(
                f"There is no master key {self._path}",
                code="master_key_missing",
                hint="Restore the file from where you keep it: what is in the database can be read with no other.",
            )
        return _read(self._path)

    def known(self) -> Sequence[MasterKey]:
        former = sorted(self._path.parent.glob(f"{self._path.name}.*"))
        files = [path for path in (self._path, *former) if path.exists()]
        return [_read(path) for path in files if path in {self._path, self._next} or _is_id(path.suffix[1:])]

    def renew(self) -> MasterKey:
        if not self._next.exists():
            _write(self._next)
        return _read(self._next)

    def settle(self, key: str) -> None:
        if not self._next.exists():
            return
        made = _read(self._next)
        if made.id != key:
            self._next.replace(self._former(made))  # not thrown away: a database that was put aside may need it
        else:
            if self._path.exists():
                former = self._former(_read(self._path))
                former.unlink(missing_ok=True)
                former.hardlink_to(self._path)
            self._next.replace(self._path)
        _sync(self._path.parent)

    def _former(self, key: LocalKey) -> Path:
        return self._path.with_name(f"{self._path.name}.{key.id}")


def _is_id(suffix: str) -> bool:
    return len(suffix) == 16 and all(character in "0123456789abcdef" for character in suffix)


def _read(path: Path) -> LocalKey:
    """Raises `Conflict` (`master_key_invalid`) for a file of another size, or one that others may read."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Conflict(
            f"{path} can be read by others",
            code="master_key_invalid",
            hint=f"Run `chmod 600 {path}`; if anyone may have read it, rotate it: `orchestrator encryption rotate`.",
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise Conflict(
            f"{path} holds {len(key)} bytes and not {KEY_BYTES}",
            code="master_key_invalid",
            hint="Restore the file from your backup. Without it, what is in the database cannot be read.",
        )
    return LocalKey(key)


def _write(path: Path) -> None:
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
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """The names in a folder are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
