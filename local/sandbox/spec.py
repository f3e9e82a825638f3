"""What a sandbox is to contain, and how it is told to the launcher.

Written by whoever wants something run (builds, zygotes), read by `launch`. It decides nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator_runtime import contract
from orchestrator_runtime.contract.instance import RUNTIME_PATH, Limits

Network = Literal["none", "proxy", "host"]
"""`host` is for our own programs only: they stay in the network that the supervisor is in."""

HOST_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib64")  # every sandbox has these already


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host that appears inside. What is below it on the host comes with it."""

    host: str
    inside: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory. Sizes in bytes; `inodes` is the number of files."""

    path: str
    size: int
    inodes: int


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One program in one sandbox.

    Every sandbox also has the host's /usr and /lib, a small /etc of its own, /proc, /dev and /tmp (a tmpfs of
    `limits.scratch_bytes`), and empty folders to mount at: /app.
    """

    organization: str
    argv: tuple[str, ...]
    limits: Limits
    uid: int | None = None  # host uid of the organization when we are root (`uids.OrganizationUids`); else None
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    network: Network = "none"
    timeout: float | None = None  # seconds; then it is killed
    forks_instances: bool = False  # a zygote: it may make namespaces and mounts for its instances

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> SandboxSpec:
        """Read what `to_json` wrote. Raises `TypeError`, `KeyError` or `ValueError` for anything else."""
        return cls.from_fields(json.loads(data))

    @classmethod
    def from_fields(cls, values: dict[str, Any]) -> SandboxSpec:
        """From the JSON object that a message carries."""
        return cls(
            **{
                **values,
                "argv": tuple(values["argv"]),
                "limits": Limits(**values["limits"]),
                "binds": tuple(Bind(**item) for item in values.get("binds", ())),
                "tmpfs": tuple(Tmpfs(**item) for item in values.get("tmpfs", ())),
            }
        )


def interpreter_binds(python: str | Path) -> tuple[Bind, ...]:
    """What an environment's `bin/python` needs to start: the installation that its links lead to, at its own path.

    The environment itself is not among them, nor is what every sandbox has already.
    """
    prefixes: list[Path] = []
    program = Path(python)
    while program.is_symlink():
        program = Path(os.path.normpath(program.parent / program.readlink()))
        prefixes.append(program.parent.parent)
    prefixes.append(program.resolve().parent.parent)
    return tuple(
        Bind(str(prefix.resolve()), str(prefix)) for prefix in dict.fromkeys(prefixes) if not _always_there(prefix)
    )


def _always_there(folder: Path) -> bool:
    return folder == Path("/") or any(folder.is_relative_to(known) for known in HOST_FOLDERS)


def runtime_bind() -> Bind:
    """The installation's own `orchestrator_runtime`, where each environment's .pth file looks for it."""
    package = Path(contract.__file__).parent.parent
    return Bind(str(package), f"{RUNTIME_PATH}/{package.name}")
