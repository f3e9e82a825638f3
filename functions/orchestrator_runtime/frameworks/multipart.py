"""Parts as an answer: one as what it is, several as a form (multipart/form-data, RFC 7578)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from orchestrator_runtime.frameworks.adapter import Answer, Part

FORM_DATA = "multipart/form-data"
_ESCAPED = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"}  # as browsers do it in names


def parts_of(value: Any) -> list[tuple[str | None, Any]] | None:
    """Names and values of the form that `value` is: parts in a list, or a mapping with a part in it; else None.

    A part in a list has its own name: None.
    """
    if isinstance(value, Mapping):
        if not any(isinstance(item, Part) or _is_parts(item) for item in value.values()):  # most answers are none
            return None
        return [(str(name), item) for name, items in value.items() for item in (items if _is_parts(items) else [items])]
    return [(None, part) for part in value] if _is_parts(value) else None


def of_part(part: Part) -> Answer:
    """An answer that is the part; a file says its name."""
    headers = {}
    if part.filename is not None:
        headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(part.filename, safe='')}"
    return Answer(part.body, part.content_type, headers=headers)


def form(parts: Iterable[Part]) -> Answer:
    """An answer of several parts, in order."""
    boundary = os.urandom(16).hex().encode()
    lines = []
    for part in parts:
        filename = "" if part.filename is None else f'; filename="{part.filename.translate(_ESCAPED)}"'
        head = (
            f'Content-Disposition: form-data; name="{part.name.translate(_ESCAPED)}"{filename}\r\n'
            f"Content-Type: {' '.join(part.content_type.split())}\r\n\r\n"
        )
        lines += [b"--", boundary, b"\r\n", head.encode(errors="replace"), part.body, b"\r\n"]
    lines += [b"--", boundary, b"--\r\n"]
    return Answer(b"".join(lines), f"{FORM_DATA}; boundary={boundary.decode()}")


def _is_parts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Part) for item in value)
