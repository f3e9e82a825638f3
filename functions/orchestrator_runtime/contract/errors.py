"""The one tree of errors that a person or a program outside ever sees.

    Problem
    ├── BadInput          400  what was sent is wrong
    │   ├── Unprocessable 422  well-formed, but it contradicts something
    │   └── TooLarge      413
    ├── Unauthenticated   401
    ├── Forbidden         403
    ├── NotFound          404
    ├── Conflict          409
    ├── TooMany           429
    ├── Cancelled         499  somebody wanted the run to stop
    ├── AgentError        500  the agent's own code failed
    ├── BadGateway        502  an instance answered nonsense, or went away
    ├── Unavailable       503  try again
    └── TimedOut          504

Every error has a stable `code` (what programs test), a `detail` (what happened) and a `hint` (what to do).
On the wire it is an RFC 9457 problem document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """An error with a stable code, an HTTP status and a hint.

    `extra` holds further members of the problem document, JSON values only.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, code: str, hint: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.hint = hint
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": f"urn:orchestrator:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.hint:
            document["hint"] = self.hint
        return {**document, **self.extra}

    def in_words(self) -> str:
        """One line for a log or a terminal."""
        return f"{self.detail} ({self.code}). {self.hint}"


class BadInput(Problem):
    status = 400
    title = "Bad input"


class Unprocessable(BadInput):
    status = 422
    title = "Unprocessable"


class TooLarge(BadInput):
    status = 413
    title = "Too large"


class Unauthenticated(Problem):
    status = 401
    title = "Not signed in"


class Forbidden(Problem):
    status = 403
    title = "Not allowed"


class NotFound(Problem):
    status = 404
    title = "Not found"


class Conflict(Problem):
    status = 409
    title = "Conflict"


class TooMany(Problem):
    status = 429
    title = "Too many"


class Cancelled(Problem):
    """The status is what servers log for a caller that has gone."""

    status = 499
    title = "Cancelled"


class AgentError(Problem):
    status = 500
    title = "The agent failed"


class BadGateway(Problem):
    status = 502
    title = "The instance gave no valid answer"


class Unavailable(Problem):
    status = 503
    title = "Unavailable"


class TimedOut(Problem):
    status = 504
    title = "Timed out"


BY_STATUS: dict[int, type[Problem]] = {
    kind.status: kind
    for kind in (
        BadInput,
        Unprocessable,
        TooLarge,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooMany,
        Cancelled,
        AgentError,
        BadGateway,
        Unavailable,
        TimedOut,
    )
}


def from_document(document: Mapping[str, Any]) -> Problem:
    """The error that a problem document describes; an unknown status becomes a plain `Problem`."""
    known = {"type", "title", "status", "code", "detail", "hint"}
    kind = BY_STATUS.get(int(document.get("status", 500)), Problem)
    extra = {key: value for key, value in document.items() if key not in known}
    return kind(
        str(document.get("detail", "")),
        code=str(document.get("code", "unknown")),
        hint=str(document.get("hint", "")),
        **extra,
    )
