"""Locks in the standard format (pylock.toml, PEP 751): read what `uv` resolved or a folder brought, write our own.

Called by `builders.dependencies` and the builders of the engines. The text that `write` makes is canonical, so equal
resolutions have equal digests whatever wrote them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator_runtime.contract.errors import Unprocessable

PROJECT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def normal(name: str) -> str:
    """The normal form of a package's name (PyPA's rule)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that can be installed (a wheel) or built (a source distribution)."""

    url: str
    sha256: str

    def toml(self) -> str:
        return f"{{ url = {json.dumps(self.url)}, hashes = {{ sha256 = {json.dumps(self.sha256)} }} }}"


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package.

    `wheels` are those that fit the interpreter; `address` is where it comes from if that is no index (a requirement's
    part after the @) and `source` the same as TOML; `marker` says where it is needed at all.
    """

    name: str
    version: str
    wheels: tuple[Artifact, ...] = ()
    sdist: Artifact | None = None
    source: str = ""
    address: str = ""
    marker: str = ""

    @property
    def must_be_built(self) -> bool:
        return not self.wheels

    def pinned(self) -> str:
        """The package as a line of a requirements file, with its hashes."""
        hashes = [artifact.sha256 for artifact in (*self.wheels, self.sdist) if artifact]
        what = f"{self.name} @ {self.address}" if self.address else f"{self.name}=={self.version}"
        condition = [f"; {self.marker}"] if self.marker else []
        return " ".join([what, *condition, *(f"--hash=sha256:{value}" for value in hashes)])

    def installed_from(self, wheel: Artifact | None = None) -> str:
        """The line that makes uv install exactly this: from `wheel` if it was built here, else as the lock says."""
        found = wheel or (self.wheels[0] if self.address else None)
        if found is not None:
            return f"{self.name} @ {found.url} --hash=sha256:{found.sha256}"
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{one.sha256}" for one in self.wheels)])

    def toml(self) -> str:
        lines = ["[[packages]]", f"name = {json.dumps(self.name)}"]
        lines += [f"version = {json.dumps(self.version)}"] if self.version else []
        lines += [f"wheels = [{', '.join(wheel.toml() for wheel in self.wheels)}]"] if self.wheels else []
        lines += [f"sdist = {self.sdist.toml()}"] if self.sdist else []
        lines += [self.source] if self.source else []
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Lock:
    packages: tuple[Package, ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(package.name for package in self.packages)

    def digest(self, *facts: object) -> str:
        """The lock digest: of the packages, and of whatever else decides what the environment contains."""
        text = json.dumps(facts) + "\n" + write(self.packages)
        return hashlib.sha256(text.encode()).hexdigest()


def read_pylock(text: str) -> Lock:
    """Raises `Unprocessable` (`dependencies_invalid`) if it is no lock, or names a folder of the machine."""
    try:
        packages = tomllib.loads(text).get("packages", [])
        return Lock(tuple(sorted((_package(package) for package in packages), key=lambda package: package.name)))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise Unprocessable(
            f"The lock is no valid pylock.toml: {error}",
            code="dependencies_invalid",
            hint="Write it anew, for example with `uv pip compile --format pylock.toml`.",
        ) from error


def write(packages: Iterable[Package]) -> str:
    """The canonical text of a lock."""
    header = 'lock-version = "1.0"\ncreated-by = "orchestrator"\n'
    return "\n".join([header, *(package.toml() for package in packages)])


def hashes_of(lines: Iterable[str]) -> dict[str, frozenset[str]]:
    """Package -> the SHA-256 hashes that its requirement lines allow; packages without hashes are not in it."""
    allowed: dict[str, frozenset[str]] = {}
    for line in lines:
        hashes, name = frozenset(HASH.findall(line)), NAME.match(line)
        if hashes and name:
            key = normal(name[1])
            allowed[key] = allowed.get(key, frozenset()) | hashes
    return allowed


def keep_allowed(lock: Lock, allowed: Mapping[str, frozenset[str]]) -> Lock:
    """The lock with only those files whose hash the folder's own lock names.

    Raises `Unprocessable` (`lock_hash_mismatch`) if that leaves nothing of a package.
    """
    return Lock(tuple(_keep(package, allowed.get(package.name)) for package in lock.packages))


def _keep(package: Package, allowed: frozenset[str] | None) -> Package:
    if allowed is None:
        return package
    if package.source:
        return package  # an address or a commit, which its own hash pins
    wheels = tuple(wheel for wheel in package.wheels if wheel.sha256 in allowed)
    sdist = package.sdist if package.sdist and package.sdist.sha256 in allowed else None
    if not wheels and sdist is None:
        raise Unprocessable(
            f"No file of {package.name} {package.version} on the index has a hash that the lock names",
            code="lock_hash_mismatch",
            hint="Write the lock anew, and find out why the index holds other files than it did.",
        )
    return replace(package, wheels=wheels, sdist=sdist)


def _package(data: Mapping[str, Any]) -> Package:
    name = normal(_plain(data["name"]))
    if not PROJECT.fullmatch(name):
        raise TypeError(f"{name!r} is no name of a package")
    if "directory" in data:
        raise Unprocessable(
            f"The lock takes {name} from a folder of the machine it was written on",
            code="dependencies_invalid",
            hint="Use a version of it from an index, or import code of the folder directly.",
        )
    wheels = tuple(_artifact(wheel) for wheel in data.get("wheels", ()))
    sdist = _artifact(data["sdist"]) if "sdist" in data else None
    source = address = ""
    if "archive" in data:
        archive = _artifact(data["archive"])
        address = archive.url
        if archive.url.partition("#")[0].endswith(".whl"):
            wheels = (archive,)
        else:
            source = f"archive = {archive.toml()}"
    elif "vcs" in data:
        members = {key: _plain(value) for key, value in data["vcs"].items() if isinstance(value, str)}
        address = f"{members['type']}+{members['url']}@{members['commit-id']}"
        source = "vcs = { " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in sorted(members.items())) + " }"
    return Package(name, _plain(data.get("version", "")), wheels, sdist, source, address, str(data.get("marker", "")))


def _artifact(data: Mapping[str, Any]) -> Artifact:
    return Artifact(_plain(data["url"]), _plain(data["hashes"]["sha256"]))


def _plain(value: Any) -> str:
    """A text that stays one word when it is written into a line."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise TypeError(f"{value!r} is not allowed in a lock")
    return value
