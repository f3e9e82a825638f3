"""Reads an agent's `agent.yaml`, and says everything that is wrong with it at once, by line and in plain words.

Called by the control API for every version and by the CLI before it uploads one. The rules are those of
`domain.manifest.Manifest`; this module adds what belongs to the file: lines, what a later part of Orchestrator brings
(refused by name rather than ignored), and what this machine lacks. It reads no other file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from builders.mistakes import Mistake, explain, rule
from builders.yaml_lines import Document, Path, load
from domain.manifest import GIBIBYTE, Manifest
from orchestrator_runtime.contract.errors import Unprocessable

FILE = "agent.yaml"
SCHEMA_ID = "urn:orchestrator:schema:agent:1"

NOT_YET_KEYS: Mapping[Path, str] = {
    ("mode",): "the `mode` of an agent",
}
NOT_YET_VALUES: Mapping[Path, Mapping[str, str]] = {
    ("framework",): {"n8n": "n8n workflows", "workflow": "workflows"},
    ("access",): {"agents": "calls from agent to agent"},
    ("scale", "metric"): {"cpu": "scaling by CPU", "memory": "scaling by memory"},
}
NOT_YET_TRIGGERS = {"event": "event triggers", "schedule": "schedules", "webhook": "webhooks"}


def read(text: str, *, file: str = FILE, gpus: int = 0, memory: int | None = None) -> Manifest:
    """The manifest. `gpus` and `memory` (bytes): how much the platform can give to one instance; None: not known.

    Raises `Unprocessable` (`manifest_invalid`) with `mistakes`: [{file, line, rule, message, suggestion}].
    """
    document = load(text)
    mistakes = [
        Mistake(file, refused.line, rule(refused.path or ("yaml",), refused.code), refused.message, refused.suggestion)
        for refused in document.refused
    ]
    if document.value is None and not mistakes:
        mistakes.append(Mistake(file, 1, "manifest.empty", "The file is empty", "Add `name:` and `entrypoint:`"))
    elif document.value is not None and not isinstance(document.value, dict):
        mistakes.append(Mistake(file, 1, "manifest.wrong_type", "The file must be a mapping of keys to values"))
    elif document.value is not None:
        mistakes += _not_yet(document, file=file)
        manifest = _validate(document, mistakes, file=file)
        if manifest is not None:
            mistakes += _lacking(manifest, document, file=file, gpus=gpus, memory=memory)
            if not mistakes:
                return manifest
    raise _invalid(mistakes, file=file)


def json_schema() -> dict[str, Any]:
    """The JSON schema of the manifest for editors; docs/agent.schema.json is this, and a test keeps it so."""
    schema = Manifest.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "Orchestrator agent manifest",
    }


def _validate(document: Document, mistakes: list[Mistake], *, file: str) -> Manifest | None:
    """Read strictly, as JSON: a number is no text, and `yes` is no number."""
    try:
        return Manifest.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        known = {mistake.rule.rpartition(".")[0] for mistake in mistakes}
        found = [explain(detail, document, file=file) for detail in error.errors(include_url=False)]
        mistakes += [mistake for mistake in found if mistake.rule.rpartition(".")[0] not in known]
        return None


def _not_yet(document: Document, *, file: str) -> Iterator[Mistake]:
    """What a later part brings. It is taken out of the value, so that it is not refused a second time."""

    def mistake(path: Path, what: str, suggestion: str) -> Mistake:
        message = f"`{'.'.join(map(str, path))}`: {what} are not there yet; a later part of Orchestrator brings them"
        if what.startswith(("the ", "scaling ")):
            message = message.replace(" are not", " is not").replace("brings them", "brings it")
        return Mistake(file, document.line(path), rule(path, "not_yet"), message, suggestion)

    for path, what in NOT_YET_KEYS.items():
        if _pop(document.value, path):
            yield mistake(path, what, f"Remove `{path[-1]}`")
    for path, values in NOT_YET_VALUES.items():
        parent, key = _parent(document.value, path), str(path[-1])
        value = parent.get(key) if parent is not None else None
        if parent is not None and isinstance(value, str) and value in values:
            del parent[key]
            yield mistake(path, values[value], f"Remove `{path[-1]}`, or choose another value")
    triggers = document.value.get("triggers")
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
        for key in [key for key in trigger if key in NOT_YET_TRIGGERS] if isinstance(trigger, dict) else ():
            del trigger[key]
            yield mistake(("triggers", index, key), NOT_YET_TRIGGERS[key], "Remove this trigger")


def _parent(value: Any, path: Path) -> dict[str, Any] | None:
    for member in path[:-1]:
        value = value.get(member) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _pop(value: Any, path: Path) -> bool:
    parent = _parent(value, path)
    if parent is None or path[-1] not in parent:
        return False
    del parent[str(path[-1])]
    return True


def _lacking(manifest: Manifest, document: Document, *, file: str, gpus: int, memory: int | None) -> Iterator[Mistake]:
    """What the manifest may ask for, but not here."""
    path = ("resources", "gpu")
    if manifest.resources.gpu > gpus:
        none = "the embedded engine on this machine gives agents no GPU; the cluster engine will"
        here = f"this platform has {gpus}" if gpus else none
        message = f"The agent asks for {manifest.resources.gpu} GPU(s), but {here}"
        yield Mistake(file, document.line(path), rule(path, "unavailable"), message, "Remove `gpu`")
    path = ("resources", "memory")
    asked = manifest.resources.memory or 0  # what it has by default is a bound, and nothing that it asks for
    if memory is not None and asked > memory:
        has = f"{memory / GIBIBYTE:.1f}Gi"
        message = f"The agent asks for {asked / GIBIBYTE:.1f}Gi of memory, but this machine has {has}"
        yield Mistake(file, document.line(path), rule(path, "unavailable"), message, f"Ask for less than {has}")


def _invalid(mistakes: list[Mistake], *, file: str) -> Unprocessable:
    ordered = sorted(mistakes, key=lambda mistake: mistake.line)
    first = ordered[0]
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    return Unprocessable(
        f"{file}, line {first.line}: {first.message}{more}",
        code="manifest_invalid",
        hint=first.suggestion,
        mistakes=[dataclasses.asdict(mistake) for mistake in ordered],
    )
