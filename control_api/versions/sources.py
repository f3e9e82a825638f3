"""Where uploaded folders are: unpacked beside their place, put on the disk, then named by their digest in one rename.

    sources/DIGEST/      complete ones only, never changed again
    sources/.new/ID/     one that is being unpacked; what is there when the server starts was left by a crash

The bytes come from outside and are hostile; `builders.bundle` writes plain files below the given folder only.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from builders import bundle

UNFINISHED = ".new"


def unpack(data: bytes, sources: Path) -> tuple[str, Path]:
    """Unpack an upload into a folder of its own; returns its content digest and the folder, which the caller removes.

    Raises what `bundle.unpack` raises.
    """
    folder = sources / UNFINISHED / secrets.token_hex(8)
    try:
        return bundle.unpack(data, folder), folder
    except BaseException:  # whatever ends it, nothing half-made stays
        discard(folder)
        raise


def keep(folder: Path, sources: Path, digest: str) -> None:
    """Make `folder` the source of `digest`, durably. What is already there has the same content and stays."""
    target = sources / digest
    if target.is_dir():
        return
    _sync_tree(folder)
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise  # otherwise an upload of the same content came first
    _sync(sources)


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def clear_unfinished(organizations: Path) -> None:
    """Remove what a crash left; only before anything is uploaded."""
    for organization in organizations.iterdir() if organizations.is_dir() else ():
        discard(organization / "sources" / UNFINISHED)


def _sync_tree(folder: Path) -> None:
    """Everything below onto the disk, with folders that an instance's user may enter whatever our umask is."""
    for parent, _, files in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in files:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
