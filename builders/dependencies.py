"""What an agent's folder says it depends on: read here, resolved by `uv` in a sandbox later.

Called by the builder of each engine. Everything a resolution depends on becomes text in `Declared`, so that the folder
itself is never needed again and equal declarations are resolved once. Nothing here runs, builds or downloads anything.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builders.locks import read_pylock
from domain.manifest import Framework
from orchestrator_runtime.contract.errors import Unprocessable

BUILD_SECRETS = ("UV_INDEX_", "PIP_INDEX")
FRAMEWORK_PACKAGES: Mapping[Framework, str] = {
    Framework.LANGGRAPH: "langgraph",
    Framework.CREWAI: "crewai",
    Framework.AGNO: "agno",
}
INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[ =]\s*(\S+)$")
INDEX = re.compile(r"(-i|--index-url|--extra-index-url)[ =]\s*(\S+)$")
LOCAL = re.compile(r"(\.{0,2}/|file:|\S+\s*@\s*(file:|\.{0,2}/))")
FORMAT = 1  # part of every input digest: raise it when the same input must be resolved anew


def is_build_secret(name: str) -> bool:
    """Whether a secret of the organization becomes part of a build's environment (credentials of package indexes)."""
    return name.startswith(BUILD_SECRETS)


@dataclass(frozen=True, slots=True)
class Declared:
    """What is wanted. `requirements` and `constraints` are lines as in a requirements file, hashes included.

    `uv_lock` is the text of (pyproject.toml, uv.lock), which only uv can turn into such lines.
    """

    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    requires_python: str = ""
    indexes: tuple[str, ...] = ()
    uv_lock: tuple[str, str] | None = None
    source: str = ""

    def digest(self, *facts: object) -> str:
        """The input digest: of this, and of whatever else decides the resolution (JSON values)."""
        parts = [FORMAT, self.requirements, self.constraints, self.indexes, self.uv_lock, *facts]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(folder: str) -> Declared:
    """What the folder declares: pyproject.toml or requirements.txt, and a lock if it has one.

    Raises `Unprocessable` (`dependencies_invalid`) for what cannot be read, or is no requirement on a package.
    """
    root = Path(folder)
    project = _Project.read(root / "pyproject.toml")
    lines, indexes = list(project.dependencies), list(project.indexes)
    constraints: list[str] = []
    source = "pyproject.toml" if project.dependencies else ""
    names = ["requirements.lock"] if (root / "requirements.lock").is_file() else []
    if not project.declares and (root / "requirements.txt").is_file():
        names.append("requirements.txt")
    for name in names:
        source = source or name
        for kind, line in _requirement_lines(root, name, ()):
            {"requirement": lines, "constraint": constraints, "index": indexes}[kind].append(line)
    if (root / "pylock.toml").is_file():
        lines += [package.pinned() for package in read_pylock(_text(root / "pylock.toml")).packages]
        source = "pylock.toml"
    uv_lock = None
    if (root / "uv.lock").is_file() and project.text and source != "pylock.toml" and "requirements.lock" not in names:
        uv_lock = (project.text, _text(root / "uv.lock"))
        source = "uv.lock"
    elif project.sources:
        raise _invalid(
            f"pyproject.toml takes {', '.join(project.sources)} from tool.uv.sources",
            "Add the uv.lock that `uv lock` writes, so that the sources are known.",
        )
    return Declared(
        tuple(dict.fromkeys(lines)),
        tuple(dict.fromkeys(constraints)),
        project.requires_python,
        tuple(dict.fromkeys(indexes)),
        uv_lock,
        source,
    )


def exported(declared: Declared, text: str) -> Declared:
    """`declared` with what uv exported from its uv.lock (a requirements file with hashes) in place of the lock."""
    lines = [line for line in _lines(text) if not INDEX.match(line)]
    for line in lines:
        _check(line, "uv.lock")
    return replace(declared, requirements=tuple(lines), uv_lock=None)


def check_framework(framework: Framework, names: frozenset[str], declared: Declared) -> None:
    """Raises `Unprocessable` (`framework_missing`) if the manifest's framework is not among the resolved packages."""
    package = FRAMEWORK_PACKAGES.get(framework)
    if package is None or package in names:
        return
    raise Unprocessable(
        f"The manifest says `framework: {framework.value}`, but nothing depends on the package {package}",
        code="framework_missing",
        hint=f"Add `{package}` to {declared.source or 'requirements.txt'}.",
    )


@dataclass(frozen=True, slots=True)
class _Project:
    """What matters of a pyproject.toml."""

    text: str = ""
    declares: bool = False  # it has a [project] table, so requirements.txt is not looked at
    dependencies: tuple[str, ...] = ()
    requires_python: str = ""
    indexes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> _Project:
        if not path.is_file():
            return cls()
        text = _text(path)
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _invalid(f"pyproject.toml is no valid TOML: {error}", "Correct it.") from error
        project, tool = _table(data, "project"), _table(_table(data, "tool"), "uv")
        if "dependencies" in project.get("dynamic", ()):
            raise _invalid(
                "pyproject.toml declares its dependencies as dynamic, which only its build back end could tell",
                "List them under [project] dependencies.",
            )
        dependencies = project.get("dependencies", [])
        if not isinstance(dependencies, list) or not all(isinstance(line, str) for line in dependencies):
            raise _invalid("[project] dependencies in pyproject.toml is no list of texts", "Write it as a list.")
        for line in dependencies:
            _check(line, "pyproject.toml")
        indexes = [
            f"{index['name']}={index['url']}" if "name" in index else str(index["url"])
            for index in tool.get("index", [])
            if isinstance(index, dict) and "url" in index and not index.get("explicit")
        ]
        return cls(
            text,
            bool(project),
            tuple(dependencies),
            str(project.get("requires-python", "")),
            tuple(indexes),
            tuple(_table(tool, "sources")),
        )


def _requirement_lines(root: Path, name: str, seen: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(requirement | constraint | index, line) of a requirements file and the files of the folder that it includes."""
    path = (root / name).resolve()
    if name in seen or not path.is_relative_to(root.resolve()) or not path.is_file():
        raise _invalid(f"{(seen or (name,))[-1]} includes {name}, which is no other file of the folder", "Correct it.")
    for line in _lines(_text(path)):
        if match := INCLUDE.match(line):
            kept = "constraint" if match[1] in {"-c", "--constraint"} else ""
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2]))
            for kind, found in _requirement_lines(root, inner, (*seen, name)):
                yield (kept if kept and kind == "requirement" else kind), found
        elif match := INDEX.match(line):
            yield "index", match[2]
        else:
            _check(line, name)
            yield "requirement", line


def _lines(text: str) -> Iterator[str]:
    """The lines that say something, continued ones joined, without comments."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if said := re.sub(r"(^|\s)#.*$", "", line).strip():
            yield " ".join(said.split())


def _check(line: str, source: str) -> None:
    """Refuse what is no requirement on a package of an index or an address."""
    if line.startswith("-"):
        raise _invalid(
            f"{source} holds the option {line.split()[0]}, which is not supported",
            "Requirements, -r, -c and index addresses are; set other options in the server's environment (UV_…).",
        )
    if LOCAL.match(line):
        raise _invalid(
            f"{source} asks for the local path {line!r}", "Import code of the folder directly, without a requirement."
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"{path.name} is not UTF-8", "Save it as UTF-8.") from error


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _invalid(detail: str, hint: str) -> Unprocessable:
    return Unprocessable(detail, code="dependencies_invalid", hint=hint)
