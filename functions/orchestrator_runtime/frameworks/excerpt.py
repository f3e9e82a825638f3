"""Any Python value as JSON that a person can read in a step: bounded in depth, length and width, and never an error.

The state of an agent grows with every step; its steps must not, or storing a run would cost the square of its length.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

DEPTH = 8
ITEMS = 20  # of a list, the last ones: what is new is at its end
MEMBERS = 100
CHARACTERS = 4000


def excerpt(value: Any, *, depth: int = DEPTH) -> Any:
    """`value` as JSON values. Members of objects that are empty or None are left out, bytes are counted."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if depth == 0:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return _members(value.items(), depth)
    if isinstance(value, list | tuple | set | frozenset):
        values = list(value)
        before = [f"<{len(values) - ITEMS} more before>"] if len(values) > ITEMS else []
        return before + [excerpt(item, depth=depth - 1) for item in values[-ITEMS:]]
    return _object(value, depth)


def _object(value: Any, depth: int) -> Any:
    names = getattr(type(value), "model_fields", None)  # a pydantic model
    if names is None and dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    if names is None:
        try:
            return _text(str(value))
        except Exception:  # noqa: BLE001 - whatever the agent's own class does wrong must not end its run
            return f"<{type(value).__name__}>"
    members = ((name, getattr(value, name, None)) for name in names)
    return _members(((name, member) for name, member in members if not _is_empty(member)), depth)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def _members(members: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, member in members:
        if len(shown) == MEMBERS:
            shown["…"] = "<more>"
            break
        shown[str(name)] = excerpt(member, depth=depth - 1)
    return shown


def _text(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}… <{len(text)} characters>"
