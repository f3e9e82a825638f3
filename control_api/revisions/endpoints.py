"""/agents/{name}/revisions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_api.agents.paths import NO_AGENT, Name, Revision
from control_api.authorization import AgentsRead
from control_api.openapi import CURSOR_INVALID, errors
from control_api.paging import After, Limit, Page
from control_api.revisions.schemas import RevisionView
from control_api.revisions.service import RevisionsService

router = APIRouter(prefix="/agents/{name}/revisions", tags=["revisions"])


def provide(request: Request) -> RevisionsService:
    service: RevisionsService = request.app.state.revisions
    return service


Service = Annotated[RevisionsService, Depends(provide)]


@router.get("", summary="List an agent's revisions, newest first", responses=errors(NO_AGENT, CURSOR_INVALID))
async def list_revisions(
    name: Name, caller: AgentsRead, service: Service, after: After, limit: Limit = 50
) -> Page[RevisionView]:
    return await service.page(caller.organization, name, after=after, limit=limit)


@router.get(
    "/{revision}",
    summary="Show a revision",
    responses=errors(NO_AGENT, (404, "revision_unknown", "triage has no revision triage-00009")),
)
async def get_revision(name: Name, revision: Revision, caller: AgentsRead, service: Service) -> RevisionView:
    return await service.get(caller.organization, name, revision)
