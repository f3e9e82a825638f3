"""What pydantic refuses in a manifest, in words for the person who wrote it. Called by `builders.manifest` only."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from builders.yaml_lines import Document, Path
from domain.manifest import GIBIBYTE, HOST, MEBIBYTE, NAME, Manifest

KINDS = {"string": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list"}
BOUNDS = {
    "greater_than": ("too_small", "greater than", "gt"),
    "greater_than_equal": ("too_small", "at least", "ge"),
    "less_than": ("too_large", "less than", "lt"),
    "less_than_equal": ("too_large", "at most", "le"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct. `rule` is the dotted path in the manifest and, last, a stable code."""

    file: str
    line: int
    rule: str
    message: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Words:
    code: str
    message: str
    suggestion: str = ""


def rule(path: Path, code: str) -> str:
    return ".".join([*map(str, path), code])


def explain(error: ErrorDetails, document: Document, *, file: str) -> Mistake:
    """The mistake that one pydantic error stands for."""
    context: Mapping[str, Any] = error.get("ctx", {})
    location = (*error["loc"], *context.get("path", ()))
    path = _written_path(location, document.value, keep_last=error["type"] in {"missing", "extra_forbidden"})
    words = _words(error, path, context, document)
    line = document.line(path[:-1] if words.code == "missing" else path)
    return Mistake(file, line, rule(path, words.code), words.message, words.suggestion)


def closest(word: object, known: Iterable[str]) -> str:
    """`Did you mean …?`, or what there is to choose from."""
    choices = list(known)
    matches = difflib.get_close_matches(str(word).lower(), choices, n=1, cutoff=0.55)
    return f"Did you mean `{matches[0]}`?" if matches else f"Use one of: {', '.join(choices)}"


def _words(error: ErrorDetails, path: Path, context: Mapping[str, Any], document: Document) -> Words:
    name = "`" + ".".join(map(str, path)) + "`" if path else "The manifest"
    kind, value = error["type"], error["input"]
    if kind == "missing":
        return Words("missing", f"{name} is missing", f"Add `{path[-1]}: {_example(path)}`")
    if kind == "extra_forbidden":
        where = ".".join(map(str, path[:-1])) or "the manifest"
        known = _model(path[:-1]).model_fields
        return Words("unknown_key", f"There is no `{path[-1]}` in {where}", closest(path[-1], known))
    if kind in {"enum", "literal_error"}:
        choices = [part.strip(" '") for part in re.split(r",| or ", context["expected"])]
        return Words("not_one_of", f"{name} cannot be {_show(value)}", closest(value, choices))
    if kind in BOUNDS:
        code, comparison, key = BOUNDS[kind]
        written = document.at(path)  # a size has become a number of bytes by now
        return Words(
            code, f"{name} is {_show(written)}, but must be {comparison} {_number(context[key])}", _for_example(path)
        )
    if kind in {"string_too_long", "finite_number"}:
        limit = f"at most {context['max_length']} characters long" if "max_length" in context else "a finite number"
        return Words("too_large", f"{name} must be {limit}")
    if kind == "string_pattern_mismatch":
        return _pattern_words(name, path, str(value), context["pattern"])
    if kind == "contradiction":
        return Words("contradiction", f"{name}: {context['message']}")
    if kind == "value_error":
        return Words("invalid", f"{name} cannot be {_show(value)}: {context['error']}", _for_example(path))
    return _type_words(name, kind, value, path)


def _number(value: float) -> str:
    """A bound as people write it; only sizes have such that are whole mebibytes."""
    for unit, size in (("Gi", GIBIBYTE), ("Mi", MEBIBYTE)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    return str(int(value)) if value == int(value) else str(value)


def _type_words(name: str, kind: str, value: object, path: Path) -> Words:
    wanted = KINDS.get(kind.split("_")[0], "a mapping of keys to values")
    message = f"{name} must be {wanted}, not {_show(value)}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return Words("wrong_type", message, f'Write it in quotes: {path[-1]}: "{json.dumps(value).strip()}"')
    return Words("wrong_type", message, _for_example(path))


def _pattern_words(name: str, path: Path, value: str, pattern: str) -> Words:
    if pattern == NAME:
        slug = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-0123456789")[:40].rstrip("-")
        message = f"{name} cannot be {_show(value)}: up to 40 lower case letters, digits and dashes, a letter first"
        return Words("pattern", message, f"For example `name: {slug or _example(path)}`")
    if pattern == HOST:
        host = re.sub(r"^[a-z]+://|[/?#].*$", "", value.strip())
        message = (
            f"{name} cannot be {_show(value)}: a host is a name such as api.example.com, *.example.com or host:443"
        )
        return Words("pattern", message, f"Write `{host}`" if re.match(HOST, host) and host != value else "")
    return Words("pattern", f"{name} cannot be {_show(value)}: {_described(path)}", _repaired(path, value))


def _repaired(path: Path, value: str) -> str:
    """What the writer probably meant, if that can be told."""
    if path == ("version",) and (match := re.fullmatch(r"v?(\d+)(\.\d+)?(\.\d+)?", value)):
        parts = [str(int((part or "0").strip("."))) for part in match.groups()]
        return f"Write `version: {'.'.join(parts)}`"
    match = re.fullmatch(r"([\w./]+?)(?:\.py)?[:.](\w+)", value)
    if path == ("entrypoint",) and match and match[2] != "py":
        return f"Write `entrypoint: {match[1].strip('./').replace('/', '.')}:{match[2]}`"
    return _for_example(path)


def _written_path(location: Path, value: Any, *, keep_last: bool) -> Path:
    """The location without the members that only pydantic knows (branches of a union, parts of a key)."""
    path: list[str | int] = []
    for index, member in enumerate(location):
        if (isinstance(value, dict) and member in value) or (
            isinstance(value, list) and isinstance(member, int) and member < len(value)
        ):
            value = value[member]  # type: ignore[index]
            path.append(member)
        elif keep_last and index == len(location) - 1:
            path.append(member)
    return tuple(path)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models inside a type such as `list[Trigger]` or `Part | None`."""
    if get_origin(annotation) in {Union, types.UnionType, list}:
        return [model for argument in get_args(annotation) for model in _models(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _model(path: Path) -> type[BaseModel]:
    """The model that a path leads to, or the last one before it."""
    model: type[BaseModel] = Manifest
    for member in path:
        field = model.model_fields.get(str(member))
        model = next(iter(_models(field.annotation)), model) if field else model
    return model


def _field(path: Path) -> FieldInfo | None:
    """The innermost field on the path."""
    names = [index for index, member in enumerate(path) if isinstance(member, str)]
    if not names:
        return None
    last = names[-1]
    return _model(path[:last]).model_fields.get(str(path[last]))


def _example(path: Path) -> str:
    field = _field(path)
    if field is None:
        return ""
    example = field.examples[0] if field.examples else field.default
    if isinstance(example, list) and isinstance(path[-1], int):
        example = example[0]
    if example is None or repr(example) == "PydanticUndefined" or isinstance(example, BaseModel):
        return ""
    return _show(example, quote=False)


def _for_example(path: Path) -> str:
    example = _example(path)
    if not example or not path:
        return ""
    return f"For example `- {example}`" if isinstance(path[-1], int) else f"For example `{path[-1]}: {example}`"


def _described(path: Path) -> str:
    field = _field(path)
    return (field.description or "not of the right form").rstrip(".") if field else "not of the right form"


def _show(value: object, *, quote: bool = True) -> str:
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "…"
        return json.dumps(text, ensure_ascii=False) if quote else text
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
