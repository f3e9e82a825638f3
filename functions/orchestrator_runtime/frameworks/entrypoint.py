"""From "module:attribute" to a loaded agent, with an error that says what to do for everything that goes wrong."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

from orchestrator_runtime.contract.errors import AgentError
from orchestrator_runtime.contract.instance import InstanceStart
from orchestrator_runtime.frameworks.adapter import Agent, Load
from orchestrator_runtime.frameworks.preload import FRAMEWORKS

OWN = "orchestrator_runtime"

_loaded: dict[str, list[str]] = {}  # the first part of a name → modules that a zygote has imported


def load(start: InstanceStart, *, source: Path) -> Agent:
    """Import the entrypoint from `source`, which is the first entry of `sys.path`, and hand it to its adapter.

    Raises `AgentError`: `entrypoint_not_importable`, `entrypoint_exited`, `entrypoint_missing_attribute`,
    `entrypoint_wrong_framework`, `framework_not_installed`.
    """
    module, _, attribute = start.entrypoint.partition(":")
    adapter = _adapter(start.framework)
    give_way(source, entry=module)
    target = _attribute(_import(module), module, attribute)
    try:
        return adapter(target, start)
    except AgentError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise AgentError(
            f"{start.entrypoint} cannot be run by {start.framework}: {describe(error)}",
            code="entrypoint_wrong_framework",
            hint="Check `framework` and `entrypoint` in agent.yaml; the whole traceback is in the log.",
        ) from error


def give_way(source: Path, *, entry: str) -> None:
    """Forget modules that are imported already and have the name of one of the agent's own.

    Ours are all below one package, but the zygote has imported much else. The standard library keeps its names, as
    other modules need it, but not that of the entrypoint.
    """
    loaded = _loaded or _names_by_top()
    for top in {path.stem if path.suffix == ".py" else path.name for path in source.iterdir() if _is_module(path)}:
        if top == OWN or (top in sys.stdlib_module_names and top != entry.partition(".")[0]):
            continue
        for name in loaded.get(top, ()):
            if name in sys.modules and not _is_within(sys.modules[name], source):
                del sys.modules[name]


def remember_modules() -> None:
    """Note what is loaded, before a fork: an instance that looks through all of it writes to every page it is on."""
    _loaded.update(_names_by_top())


def _names_by_top() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sys.modules:
        found.setdefault(name.partition(".")[0], []).append(name)
    return found


def describe(error: BaseException) -> str:
    """An exception in one line: what it is, what it says, and for a mistake of syntax where."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}, line {error.lineno})"
    return text


def _adapter(framework: str) -> Load:
    if framework not in FRAMEWORKS:
        raise AgentError(
            f"There is no framework {framework!r}",
            code="framework_unknown",
            hint=f"Set `framework` in agent.yaml to one of {', '.join(FRAMEWORKS)}.",
        )
    try:
        adapter: Load = importlib.import_module(f"{OWN}.frameworks.{framework}").load
    except ImportError as error:
        traceback.print_exc()
        raise AgentError(
            f"{framework} is not usable in this agent's environment: {error}",
            code="framework_not_installed",
            hint=f"Add {framework} to the dependencies in pyproject.toml.",
        ) from error
    return adapter


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except SystemExit as error:
        raise AgentError(
            f"{module} ended the process while it was imported (exit {error.code})",
            code="entrypoint_exited",
            hint="Keep what runs a program below `if __name__ == '__main__':`.",
        ) from error
    except Exception as error:
        traceback.print_exc()
        raise AgentError(
            f"{module} cannot be imported: {describe(error)}",
            code="entrypoint_not_importable",
            hint=_import_hint(error, module),
        ) from error


def _import_hint(error: Exception, module: str) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (module == missing or module.startswith(f"{missing}.")):
        return f"The folder has no module {missing}: check `entrypoint` in agent.yaml."
    if missing:
        return f"Add the distribution that has {missing} to the dependencies in pyproject.toml, or check the name."
    return "The whole traceback is in the log."


def _attribute(found: Any, module: str, attribute: str) -> Any:
    for name in attribute.split("."):
        if not hasattr(found, name):
            names = ", ".join(name for name in dir(found) if not name.startswith("_"))
            raise AgentError(
                f"{module} has no attribute {attribute!r}",
                code="entrypoint_missing_attribute",
                hint=f"Check `entrypoint` in agent.yaml; it has: {names[:500] or 'nothing'}.",
            )
        found = getattr(found, name)
    return found


def _is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").is_file()


def _is_within(module: Any, source: Path) -> bool:
    file = getattr(module, "__file__", None)
    paths = [file] if file else list(getattr(module, "__path__", []))
    return any(Path(path).is_relative_to(source) for path in paths)
