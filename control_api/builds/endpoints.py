"""/builds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import PlainTextResponse

from control_api.authorization import AgentsRead, LogsRead
from control_api.builds.schemas import BuildView
from control_api.builds.service import BuildsService
from control_api.openapi import CURSOR_INVALID, answers, errors
from control_api.paging import After, Limit, Page

router = APIRouter(prefix="/builds", tags=["builds"])

UNKNOWN = (404, "build_unknown", "There is no build 0193a5b0-7c40-7a10-8f00-5d6c7b8a9f01")


def provide(request: Request) -> BuildsService:
    service: BuildsService = request.app.state.builds
    return service


Service = Annotated[BuildsService, Depends(provide)]
Id = Annotated[str, Path(description="Id of the build.")]


@router.get("", summary="List builds, newest first", responses=errors(CURSOR_INVALID))
async def list_builds(
    caller: AgentsRead,
    service: Service,
    after: After,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    limit: Limit = 50,
) -> Page[BuildView]:
    return await service.page(caller.organization, agent=agent, after=after, limit=limit)


@router.get("/{build}", summary="Show a build", responses=errors(UNKNOWN))
async def get_build(build: Id, caller: AgentsRead, service: Service) -> BuildView:
    return await service.get(caller.organization, build)


@router.get(
    "/{build}/log",
    summary="What a build has said so far; a deployment's events show it live",
    response_class=PlainTextResponse,
    responses=errors(UNKNOWN) | answers("text/plain", example="Resolved 12 packages for Python 3.11.9\n"),
)
async def get_build_log(build: Id, caller: LogsRead, service: Service) -> PlainTextResponse:
    return PlainTextResponse(await service.log(caller.organization, build))
