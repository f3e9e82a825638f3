"""The HTTP API: every feature's router below /api/v1, and what surrounds them. `bootstrap` fills `app.state`."""

from __future__ import annotations

from importlib import metadata

from fastapi import APIRouter, FastAPI

from control_api import errors, openapi
from control_api.agents.endpoints import router as agents
from control_api.backups.endpoints import router as backups
from control_api.body_limit import BodyLimit
from control_api.border import Border, Measure, Span, no_span
from control_api.builds.endpoints import router as builds
from control_api.deployments.endpoints import router as deployments
from control_api.encryption.endpoints import router as encryption
from control_api.grants.endpoints import router as grants
from control_api.health.endpoints import router as health
from control_api.invitations.endpoints import router as invitations
from control_api.keys.endpoints import router as keys
from control_api.logs.endpoints import router as logs
from control_api.members.endpoints import router as members
from control_api.metrics.endpoints import router as metrics
from control_api.organizations.endpoints import router as organizations
from control_api.revisions.endpoints import router as revisions
from control_api.runs.endpoints import router as runs
from control_api.secrets.endpoints import router as secrets
from control_api.service_accounts.endpoints import router as service_accounts
from control_api.sessions.endpoints import router as sessions
from control_api.versions.endpoints import router as versions
from domain.clock import Clock

PREFIX = "/api/v1"
FEATURES = (
    agents,
    grants,
    revisions,
    logs,
    sessions,
    versions,
    builds,
    deployments,
    runs,
    secrets,
    organizations,
    members,
    invitations,
    service_accounts,
    keys,
    encryption,
    backups,
    health,
    metrics,
    openapi.router,
)
DESCRIPTION = """\
Deploy agents, call them, and see every step of what they did. Agents themselves are called at `/agents/NAME`.

Every operation but one needs a bearer token and a permission (`x-permission`); what is read and changed is always of
the organization that the token belongs to. Lists are cursor pages, errors are problem documents (RFC 9457) with a
stable `code`, and live streams are server-sent events that go on after `Last-Event-ID`.
"""


def create_app(*, clock: Clock, measure: Measure, span: Span = no_span) -> FastAPI:
    """The application without its services."""
    app = FastAPI(
        title="Orchestrator",
        version=metadata.version("orchestrator"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    api = APIRouter(prefix=PREFIX)
    for feature in FEATURES:
        api.include_router(feature)
    app.include_router(api)
    errors.install(app)
    openapi.install(app)
    app.add_middleware(BodyLimit, free=frozenset({f"{PREFIX}/versions"}))
    app.add_middleware(Border, clock=clock, measure=measure, span=span)
    return app
