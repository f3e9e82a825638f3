"""/versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from control_api.authorization import AgentsRead, AnAgentWrite
from control_api.openapi import errors
from control_api.paging import After, Limit, Page
from control_api.versions.schemas import VersionView
from control_api.versions.service import VersionsService

router = APIRouter(prefix="/versions", tags=["versions"])

UNKNOWN = (404, "version_unknown", "No version with this digest was uploaded")
BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def provide(request: Request) -> VersionsService:
    service: VersionsService = request.app.state.versions
    return service


Service = Annotated[VersionsService, Depends(provide)]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="Content digest of the version.")]


@router.post(
    "",
    status_code=201,
    summary="Upload an agent's folder as a gzipped tar archive; 200 if it is known already",
    openapi_extra=BODY,
    responses={
        200: {"model": VersionView, "description": "It was uploaded before."},
        **errors(
            (400, "bundle_invalid", "This is no valid bundle: it cannot be read"),
            (413, "source_too_large", "The upload is larger than 64 MiB"),
            (413, "bundle_too_large", "The agent's folder holds more than 100 MiB"),
            (422, "no_manifest", "The folder has no agent.yaml"),
            (422, "manifest_invalid", "agent.yaml, line 3: `framwork` is not known; did you mean `framework`?"),
        ),
    },
)
async def upload_version(request: Request, response: Response, caller: AnAgentWrite, service: Service) -> VersionView:
    view, new = await service.upload(caller, request.stream())
    if not new:
        response.status_code = 200
    return view


@router.get("", summary="List versions, newest first", responses=errors((400, "cursor_invalid", "Not one of ours")))
async def list_versions(
    caller: AgentsRead,
    service: Service,
    after: After,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    limit: Limit = 50,
) -> Page[VersionView]:
    return await service.page(caller.organization, agent=agent, after=after, limit=limit)


@router.get("/{digest}", summary="Show a version", responses=errors(UNKNOWN))
async def get_version(digest: Digest, caller: AgentsRead, service: Service) -> VersionView:
    return await service.get(caller.organization, digest)
