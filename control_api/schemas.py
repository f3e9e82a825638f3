"""The base of every request and response body: strict on the way in, with an example for the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer

Moment = Annotated[
    datetime,
    PlainSerializer(lambda at: at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), str),
]
"""ISO 8601 in UTC with milliseconds."""

ProblemDocument = dict[str, Any]


class Body(BaseModel):
    """What a client sends; a member we do not know is a mistake, not something to ignore."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What we answer."""

    model_config = ConfigDict(frozen=True)


def example(**values: Any) -> ConfigDict:
    """`model_config` of a body or view that documents itself by one example."""
    return ConfigDict(json_schema_extra={"examples": [values]})
