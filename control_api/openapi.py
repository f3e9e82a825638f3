"""The API's description: documented errors for each operation, the OpenAPI document, and Swagger UI without internet.

The document is OpenAPI 3.0.3: that is what the bundled Swagger UI renders. FastAPI writes 3.1, so `_as_3_0` rewrites
the few JSON schema keywords in which the two differ.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from control_api.authorization import Allowed, DocsRead, Public
from orchestrator_runtime.contract.errors import PROBLEM_CONTENT_TYPE, NotFound

Documented = tuple[int, str, str]
"""An error an operation may answer: HTTP status, code, detail."""

NO_CREDENTIAL: Documented = (401, "unauthenticated", "This needs a credential")
NOT_ALLOWED: Documented = (403, "permission_missing", "This credential lacks the permission agents:read")
INVALID: Documented = (422, "invalid_request", "The request does not fit its schema: limit")
CURSOR_INVALID: Documented = (400, "cursor_invalid", "The cursor is not one of ours")
ROLE_ABOVE: Documented = (403, "role_above", "The role owner may do more than this credential")
NO_ACCOUNT: Documented = (
    404,
    "service_account_unknown",
    "There is no service account 0193a5b0-7c00-7000-8000-000000000005",
)
BODY_TOO_LARGE: Documented = (413, "body_too_large", "The body is too large")
RATE_LIMITED: Documented = (429, "rate_limited", "This credential may send 1000 requests a second")
INTERNAL: Documented = (500, "internal", "Something unexpected went wrong in the server")

ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
STARTER = "start.js"
PAGE = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orchestrator API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/{STARTER}"></script>
</html>
"""
START = """\
SwaggerUIBundle({
  url: new URL("openapi.json", location.origin + location.pathname).href,
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  persistAuthorization: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Scripts and styles from here alone, none within the page; Swagger UI's style sheet holds images as data."""
PROBLEM_SCHEMA = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; what a program should test."},
        "detail": {"type": "string", "description": "What happened."},
        "hint": {"type": "string", "description": "What to do."},
        "correlation_id": {"type": "string", "description": "Finds the request in the logs."},
    },
}


def errors(*documented: Documented) -> dict[int | str, dict[str, Any]]:
    """`responses=` of an endpoint: the given errors, and those that every operation may answer."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status, code, detail in (NO_CREDENTIAL, NOT_ALLOWED, INVALID, RATE_LIMITED, INTERNAL, *documented):
        response = responses.setdefault(status, {"description": detail, "content": {PROBLEM_CONTENT_TYPE: {}}})
        content = response["content"][PROBLEM_CONTENT_TYPE]
        content["schema"] = {"$ref": "#/components/schemas/Problem"}
        content.setdefault("examples", {})[code] = {"value": {"status": status, "code": code, "detail": detail}}
    return responses


def answers(content_type: str, *, example: str, description: str = "OK") -> dict[int | str, dict[str, Any]]:
    """The 200 response of an operation that does not answer JSON."""
    schema = {"type": "string"}
    return {200: {"description": description, "content": {content_type: {"schema": schema, "example": example}}}}


def install(app: FastAPI) -> None:
    """Let `app.openapi()` make our document; the routes that show it are in `router`."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            made["openapi"] = "3.0.3"
            components = made.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{"token": []}]
            _add_permissions(app, made)
            app.openapi_schema = _as_3_0(made)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _add_permissions(app: FastAPI, document: dict[str, Any]) -> None:
    """Say of every operation which permission it needs: `x-permission`."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for needed in _needed(route.dependant):
            for method in route.methods or ():
                operation = document["paths"][context.path_format][method.lower()]
                operation["x-permission"] = needed.permission
                if isinstance(needed, Public):
                    operation["security"] = [{}, {"token": []}]


def _needed(dependant: Dependant) -> Iterator[Allowed | Public]:
    if isinstance(dependant.call, Allowed | Public):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _needed(inner)


router = APIRouter(tags=["documentation"], include_in_schema=False)


@router.get("/openapi.json")
async def openapi_document(request: Request, caller: DocsRead) -> Response:
    app: FastAPI = request.app
    return JSONResponse(app.openapi())


@router.get("/docs")
async def swagger_ui(caller: DocsRead) -> HTMLResponse:
    return HTMLResponse(PAGE, headers={"content-security-policy": PAGE_POLICY})


@router.get("/docs/{asset}")
async def swagger_asset(asset: str, caller: DocsRead) -> Response:
    if asset == STARTER:
        return Response(START, media_type="text/javascript")
    media_type = ASSETS.get(asset)
    if media_type is None:
        raise NotFound(f"There is no {asset} here", code="unknown_path", hint="See /api/v1/docs.")
    return FileResponse(_swagger_folder() / asset, media_type=media_type)


def _swagger_folder() -> Path:
    """Where the package `swagger-ui-bundle` keeps its files; the package itself is not imported, it loads jinja2."""
    found = importlib.util.find_spec("swagger_ui_bundle")
    assert found is not None
    assert found.origin is not None
    [folder] = Path(found.origin).parent.glob("vendor/swagger-ui-*")
    return folder


def _as_3_0(node: Any) -> Any:
    """JSON schema of OpenAPI 3.1 in the words of 3.0: nullable, one-valued enums, a single example."""
    if isinstance(node, list):
        return [_as_3_0(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _as_3_0(value) for key, value in node.items()}
    options = made.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del made["anyOf"]
        made |= {"nullable": True, **(rest[0] if len(rest) == 1 and "$ref" not in rest[0] else {"anyOf": rest})}
    if "const" in made and "type" in made:
        made["enum"] = [made.pop("const")]
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(made.get(bound), int | float) and not isinstance(made.get(bound), bool):
            made[bound.replace("exclusiveM", "m")] = made[bound]
            made[bound] = True
    if isinstance(made.get("examples"), list):
        made["example"] = made.pop("examples")[0]
    return made
