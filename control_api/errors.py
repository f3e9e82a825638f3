"""Every error of the API as a problem document (RFC 9457), whatever raised it: ours, FastAPI's, or nobody's plan.

Unexpected exceptions are not handled here but in `border`, which is outside of everything that can fail.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain.logging import correlation_id
from orchestrator_runtime.contract.errors import (
    BY_STATUS,
    PROBLEM_CONTENT_TYPE,
    BadInput,
    NotFound,
    Problem,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)

BEARER_CHALLENGE = "Bearer"
BROWSER_CHALLENGE = 'Basic realm="Orchestrator: any name, the token as password"'
"""Alone in its line: browsers made of Chromium understand no line with two challenges, and then ask for nothing."""


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that a problem is sent as."""
    document = {**problem.document(), "correlation_id": correlation_id.get()}
    sent = dict(headers or {})
    if isinstance(problem, Unauthenticated):
        sent["www-authenticate"] = BROWSER_CHALLENGE if problem.extra.get("browser") else BEARER_CHALLENGE
        document.pop("browser", None)
    if isinstance(problem, Unavailable | TooMany):
        sent.setdefault("retry-after", "1")
    body = json.dumps(document, ensure_ascii=False, default=str).encode()
    return Response(body, problem.status, sent, media_type=PROBLEM_CONTENT_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """What a schema refused. The value itself is not repeated: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    mistakes: list[dict[str, Any]] = []
    for found in error.errors():
        if found["type"] == "json_invalid":
            return problem_response(
                BadInput("The body is not JSON", code="not_json", hint="Send JSON with Content-Type: application/json.")
            )
        place, *path = found["loc"]
        mistakes.append({"in": str(place), "field": ".".join(map(str, path)), "message": found["msg"]})
    named = ", ".join(mistake["field"] or mistake["in"] for mistake in mistakes)
    return problem_response(
        Unprocessable(
            f"The request does not fit its schema: {named}",
            code="invalid_request",
            hint="Correct the fields listed in `mistakes`; /api/v1/docs shows the schema.",
            mistakes=mistakes,
        )
    )


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: an unknown path, a method that a path does not have."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem_response(
            NotFound(f"There is nothing at {request.url.path}", code="unknown_path", hint="See /api/v1/docs.")
        )
    if error.status_code == 405:
        return problem_response(MethodNotAllowed(request.method, request.url.path), error.headers)
    if error.status_code == 413:
        return problem_response(TooLarge("The body is too large", code="body_too_large", hint="Send less at once."))
    kind = BY_STATUS.get(error.status_code, Problem)
    return problem_response(kind(str(error.detail), code="http_error"), error.headers)


class MethodNotAllowed(BadInput):
    """Only HTTP knows this one, so it is not in the contract's tree."""

    status = 405
    title = "Method not allowed"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"{path} does not take {method}", code="method_not_allowed", hint="See /api/v1/docs.")
