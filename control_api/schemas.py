"""The base of every request and response body: strict on the way in, with an example for the documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer


def written(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(written, str)]
"""As `written` says."""

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
