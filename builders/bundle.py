"""An agent's folder as a bundle: which files belong to it, their digest, a tar archive of them and back again.

The CLI lists, digests and packs (so this module needs the standard library only and starts fast); the control API
unpacks what it received, which is hostile until proven otherwise. Nothing here reads the manifest or runs anything.

The digest does not depend on the archive: it is the SHA-256 over one line `path NUL mode NUL sha256(content) LF` per
file, sorted by path, so the same files are the same version whoever packed them.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builders.resolver import disk_full
from orchestrator_runtime.contract.errors import BadInput, TooLarge, Unprocessable

MAX_TOTAL_BYTES = 100 * 1024 * 1024
MAX_FILES = 20_000
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
HEADER_BYTES = 2048  # tar's own headers and padding of one file, long paths included
IGNORE_FILE = ".orchestratorignore"
ALWAYS_IGNORED = frozenset({".git", "__pycache__", ".venv", "node_modules", ".orchestrator"})


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of the folder. `path` is relative with forward slashes; `location` is where it is on this machine."""

    path: str
    executable: bool
    location: str
    size: int

    @property
    def mode(self) -> str:
        return "0755" if self.executable else "0644"


def list_files(folder: str | os.PathLike[str]) -> list[BundleFile]:
    """The files that belong to the agent, sorted by path.

    Raises `Unprocessable` for a symbolic link, a device or a path that cannot travel, `TooLarge` beyond the limits.
    """
    root = os.fspath(folder)
    ignored = _ignored(root)
    files: list[BundleFile] = []
    total = 0
    waiting = [(root, "")]
    while waiting:
        location, prefix = waiting.pop()
        with os.scandir(location) as entries:
            for entry in entries:
                path = prefix + entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name in ALWAYS_IGNORED or entry.name.endswith(".pyc") or ignored(path, is_folder):
                    continue
                if is_folder:
                    waiting.append((entry.path, path + "/"))
                    continue
                file = _file(entry, path)
                total += file.size
                files.append(file)
                _check_limits(total, len(files))
    return sorted(files, key=lambda file: file.path)


def digest(files: Iterable[BundleFile]) -> str:
    """The content digest of a version, 64 hexadecimal digits."""
    return _digest((file.path, file.mode, _content_digest(file.location)) for file in files)


def pack(folder: str | os.PathLike[str]) -> bytes:
    """The folder as a gzipped tar archive; equal files give equal bytes."""
    target = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=target, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in list_files(folder):
            content = Path(file.location).read_bytes()
            member = tarfile.TarInfo(file.path)
            member.size = len(content)
            member.mode = int(file.mode, 8)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def unpack(data: bytes, into: str | os.PathLike[str]) -> str:
    """Write the archive's files below `into`, a folder that does not exist or is empty; returns their content digest.

    Raises `BadInput` (`bundle_invalid`), `TooLarge` or `Unavailable` (`disk_full`). What was written before the error
    is left to the caller, who unpacks into a temporary folder.
    """
    root = Path(into)
    root.mkdir(parents=True, exist_ok=True)
    lines: list[tuple[str, str, str]] = []
    total = 0
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(data)) as zipped,
            tarfile.open(fileobj=_Capped(zipped), mode="r|") as archive,
        ):
            for member in archive:
                path = _safe_path(member)
                if member.isdir():
                    continue
                total += member.size
                _check_limits(total, len(lines) + 1)
                content = archive.extractfile(member) if member.isfile() else None
                if content is None:
                    raise _invalid(f"{path} is no plain file but a link, a device or a pipe")
                lines.append((path, *_write(root, path, content, executable=bool(member.mode & 0o100))))
    except (tarfile.TarError, OSError, EOFError, zlib.error, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full() from error
        raise _invalid(f"it cannot be read: {error}") from error
    return _digest(lines)


class _Capped(io.BytesIO):
    """A stream that ends with an error before a small archive can become a huge one."""

    def __init__(self, source: gzip.GzipFile) -> None:
        super().__init__()
        self._source = source
        self._left = MAX_TOTAL_BYTES + MAX_FILES * HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > self._left:
            raise TooLarge("The bundle unpacks to more than is allowed", code="bundle_too_large")
        data = self._source.read(size)
        self._left -= len(data)
        return data


def _ignored(root: str) -> Callable[[str, bool], bool]:
    """What the folder's own ignore file says of (path, is a folder)."""
    try:
        patterns = (Path(root) / IGNORE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return lambda path, is_folder: False
    from pathspec import GitIgnoreSpec  # only for a folder that has such a file: the CLI has to start fast

    spec = GitIgnoreSpec.from_lines(patterns.splitlines())
    return lambda path, is_folder: spec.match_file(path + "/" if is_folder else path)


def _file(entry: os.DirEntry[str], path: str) -> BundleFile:
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no plain file"
        raise Unprocessable(
            f"{path} is {kind}; an agent's folder may hold plain files only",
            code="bundle_not_plain",
            hint=f"Replace it by a copy of what it stands for, or name it in {IGNORE_FILE}.",
            path=path,
        )
    if reason := _bad_path(path):
        raise Unprocessable(
            f"{path!r} cannot be part of a bundle: {reason}",
            code="bundle_path",
            hint=f"Rename it, or name it in {IGNORE_FILE}.",
        )
    return BundleFile(path, bool(status.st_mode & stat.S_IXUSR), entry.path, status.st_size)


def _check_limits(total: int, count: int) -> None:
    if total > MAX_TOTAL_BYTES or count > MAX_FILES:
        limit = f"{MAX_TOTAL_BYTES // 2**20} MiB" if total > MAX_TOTAL_BYTES else f"{MAX_FILES} files"
        raise TooLarge(
            f"The agent's folder holds more than {limit}",
            code="bundle_too_large",
            hint=f"Name what the agent does not need in {IGNORE_FILE}.",
        )


def _bad_path(path: str) -> str:
    """Why a relative path may not be written below a folder; empty if it may."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    parts = path.split("/")
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"it is longer than {MAX_PATH_BYTES} bytes, or {MAX_NAME_BYTES} in one name"
    if any(part in {"", ".", ".."} for part in parts):
        return "it leaves the folder"
    if any(character < " " or character in "\\\x7f" for character in path):
        return "it holds a control character or a backslash"
    return ""


def _safe_path(member: tarfile.TarInfo) -> str:
    if reason := _bad_path(member.name):
        raise _invalid(f"it names {member.name!r}: {reason}")
    return member.name


def _write(root: Path, path: str, content: IO[bytes], *, executable: bool) -> tuple[str, str]:
    """Create one file; returns its mode and content digest. `x` makes a second file of the same name an error."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := content.read(1024 * 1024):
            hashed.update(chunk)
            file.write(chunk)
    target.chmod(0o755 if executable else 0o644)
    return "0755" if executable else "0644", hashed.hexdigest()


def _content_digest(location: str) -> str:
    return hashlib.sha256(Path(location).read_bytes()).hexdigest()


def _digest(lines: Iterable[tuple[str, str, str]]) -> str:
    whole = hashlib.sha256()
    for line in sorted(lines):
        whole.update("\0".join(line).encode() + b"\n")
    return whole.hexdigest()


def _invalid(why: str) -> BadInput:
    hint = "Send what `orchestrator deploy` packs."
    return BadInput(f"This is no valid bundle: {why}", code="bundle_invalid", hint=hint)
