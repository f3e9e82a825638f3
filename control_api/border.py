"""The outermost layer of the API: correlation id, security headers, one span and one measurement per request, and
unexpected errors.

A pure ASGI middleware, because it is on the path of every request and streams must pass through it untouched. This is
a process border: the one place of the API that catches everything.
"""

from __future__ import annotations

import logging
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_api.errors import problem_response
from domain.clock import Clock
from domain.logging import correlation_id
from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.headers import CORRELATION_ID
from orchestrator_runtime.contract.ids import uuid7

logger = logging.getLogger("api")

SECURITY = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""What every answer says to browsers, unless it says it itself: it is data, no page, and for no other site. There is no
Access-Control-Allow-Origin, so scripts of other origins get nothing (CORS). Strict-Transport-Security is the gateway's,
which knows whether there is TLS."""
ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Measure(Protocol):
    """Counts one finished request. `route` is the path's template, so that the number of series stays small."""

    def __call__(self, method: str, route: str, status: int, seconds: float) -> None: ...


class Span(Protocol):
    """Opens the span of one request."""

    def __call__(self, scope: Scope, headers: Headers) -> AbstractContextManager[object]: ...


def no_span(scope: Scope, headers: Headers) -> AbstractContextManager[object]:
    return nullcontext()


class Border:
    def __init__(self, app: ASGIApp, *, clock: Clock, measure: Measure, span: Span = no_span) -> None:
        self._app = app
        self._clock = clock
        self._measure = measure
        self._span = span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["scheme"] = headers.get(
            "x-forwarded-proto", "http"
        )  # the gateway's word, which lets no other one through
        asked = headers.get(CORRELATION_ID, "")
        identity = asked if ACCEPTABLE_ID.fullmatch(asked) else uuid7()
        started = self._clock.monotonic()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[CORRELATION_ID] = identity
                given = {name for name, _ in message["headers"]}
                message["headers"].extend(line for line in SECURITY if line[0] not in given)
            await send(message)

        token = correlation_id.set(identity)
        try:
            with self._span(scope, headers):
                await self._app(scope, receive, send_on)
        except Exception:  # the border: whatever nobody planned for is logged whole and answered without details
            logger.exception("%s %s failed unexpectedly", scope["method"], scope["path"])
            if not status:
                await problem_response(_unexpected())(scope, receive, send_on)
        finally:
            self._measure(scope["method"], route_template(scope), status or 499, self._clock.monotonic() - started)
            correlation_id.reset(token)


def route_template(scope: Scope) -> str:
    """The path with names in place of values, such as /api/v1/agents/{name}; `unknown` if no route took it.

    A route knows its path without the prefix that it was included under, so that is taken from the request.
    """
    route = scope.get("route")
    if route is None:
        return "unknown"
    template: str = route.path_format
    prefix: str = scope["path"].removesuffix(template.format(**scope["path_params"]))
    return prefix + template


def _unexpected() -> Problem:
    return Problem(
        "Something unexpected went wrong in the server",
        code="internal",
        hint="The server's log has the details under this correlation id; please report it.",
    )
