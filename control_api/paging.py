"""Cursor pages: `{"items": […], "next": cursor or null}`. A cursor is opaque to clients: the last item's sort key."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from orchestrator_runtime.contract.errors import BadInput

LARGEST_PAGE = 1000
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Items per page.")]
Cursor = Annotated[str | None, Query(description="The `next` of the page before; leave it out for the first page.")]


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = Field(None, description="Pass it as `cursor` for the following page; null on the last one.")


def encode_cursor(*key: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, *, length: int) -> list[str | int] | None:
    """The sort key in `cursor`, or None without one. Raises `BadInput` (`cursor_invalid`) for what we did not make."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != length or not all(isinstance(part, str | int) for part in key):
        raise BadInput("The cursor is not one of ours", code="cursor_invalid", hint="Start without a cursor.")
    return key


def page_of(rows: Sequence[Item], *, limit: int, key: Callable[[Item], tuple[str | int, ...]]) -> Page[Item]:
    """A page of `rows`, of which there are `limit + 1` if another page follows."""
    items = list(rows[:limit])
    return Page(items=items, next=encode_cursor(*key(items[-1])) if len(rows) > limit else None)


def _after(cursor: Cursor = None) -> str | None:
    key = decode_cursor(cursor, length=1)
    return str(key[0]) if key else None


After = Annotated[str | None, Depends(_after)]
"""The `cursor` of a list that is sorted by one text."""
