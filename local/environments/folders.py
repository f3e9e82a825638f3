"""Where environments, locks and unfinished builds of an organization are, and what makes an environment complete.

    environments/DIGEST/    complete ones only: an environment appears by one rename, with its marker file inside
    locks/INPUT.toml        what was resolved, by input digest
    cache/uv/               the organization's package cache; only steps that run no code of others write there
    cache/new/ID/           an environment that is being installed, on the cache's mount, so that files can be linked
    builds/ID/              inputs (read-only in the sandbox) and outputs of one build

Whatever is in `cache/new` and `builds` when the server starts was left by a crash.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.locks import Lock, read_pylock, write
from domain.deployment import Environment
from domain.home import Home

MARKER = "environment.json"
MAX_TEXT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Folders:
    """One organization's folders."""

    home: Home
    organization: str

    @property
    def cache(self) -> Path:
        return self.home.cache(self.organization)

    @property
    def new(self) -> Path:
        return self.cache / "new"

    @property
    def builds(self) -> Path:
        return self.home.organization(self.organization) / "builds"

    def environment(self, digest: str) -> Path:
        return self.home.environments(self.organization) / digest

    def lock(self, input_digest: str) -> Path:
        return self.home.organization(self.organization) / "locks" / f"{input_digest}.toml"

    def make(self) -> None:
        for folder in (self.cache, self.builds, self.environment("x").parent, self.lock("x").parent):
            folder.mkdir(parents=True, exist_ok=True)

    def read_lock(self, input_digest: str) -> Lock | None:
        """What equal input was resolved to earlier."""
        try:
            return read_pylock(self.lock(input_digest).read_text())
        except FileNotFoundError:
            return None

    def write_lock(self, input_digest: str, lock: Lock) -> None:
        _replace(self.lock(input_digest), write(lock.packages))

    def read_environment(self, digest: str) -> Environment | None:
        """The environment if it is complete."""
        folder = self.environment(digest)
        if not (folder / MARKER).is_file():
            return None
        return Environment(digest, str(folder), str(folder / "bin" / "python"))

    def complete(self, digest: str, installed: Path, facts: Mapping[str, Any]) -> Environment:
        """Make what was installed the environment `digest`: the marker, then one rename, both on disk."""
        _replace(installed / MARKER, json.dumps({"digest": digest, **facts}, indent=2) + "\n")
        target = self.environment(digest)
        try:
            installed.rename(target)
        except OSError:
            if not (target / MARKER).is_file():
                raise  # otherwise another server made the same one meanwhile, which is as good
        _sync(target.parent)
        return Environment(digest, str(target), str(target / "bin" / "python"))

    def clear_unfinished(self) -> None:
        """Remove what builds left that a crash ended; only when none is running."""
        for folder in (self.new, self.builds):
            shutil.rmtree(folder, ignore_errors=True)


def read_output(path: Path) -> str | None:
    """A file that a sandbox wrote, or None: never through a link, and no more than a text can have."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TEXT_BYTES:
            return None
        return file.read().decode(errors="replace")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)  # never write through a link that was put there
    with draft.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
