"""/deployments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from control_api.authorization import AgentsRead, AnAgentWrite, while_valid
from control_api.deployments.schemas import DeploymentRequest, DeploymentView
from control_api.deployments.service import DeploymentsService
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, answers, errors
from control_api.paging import After, Limit, Page
from control_api.settings import Settings
from control_api.streaming import CONTENT_TYPE, event_stream, last_number

router = APIRouter(prefix="/deployments", tags=["deployments"])

UNKNOWN = (404, "deployment_unknown", "There is no deployment 0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b")
EVENTS = (
    'id: 1\nevent: state\ndata: {"state": "building"}\n\nid: 2\nevent: log\ndata: {"line": "Resolved 12 packages"}\n\n'
)


def provide(request: Request) -> DeploymentsService:
    service: DeploymentsService = request.app.state.deployments
    return service


Service = Annotated[DeploymentsService, Depends(provide)]
Id = Annotated[str, Path(description="Id of the deployment.")]


@router.post(
    "",
    status_code=202,
    summary="Let an agent serve an uploaded version; 200 with `unchanged` if it does already",
    responses={
        200: {"model": DeploymentView, "description": "It serves this version; nothing was done."},
        **errors(BODY_TOO_LARGE, (404, "version_unknown", "No version with this digest was uploaded")),
    },
)
async def create_deployment(
    body: DeploymentRequest, response: Response, caller: AnAgentWrite, service: Service
) -> DeploymentView:
    deployment = await service.deploy(caller, body.digest)
    if deployment.unchanged:
        response.status_code = 200
    return deployment


@router.get("", summary="List deployments, newest first", responses=errors(CURSOR_INVALID))
async def list_deployments(
    caller: AgentsRead,
    service: Service,
    after: After,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    limit: Limit = 50,
) -> Page[DeploymentView]:
    return await service.page(caller.organization, agent=agent, after=after, limit=limit)


@router.get("/{deployment}", summary="Show a deployment", responses=errors(UNKNOWN))
async def get_deployment(deployment: Id, caller: AgentsRead, service: Service) -> DeploymentView:
    return await service.get(caller.organization, deployment)


@router.get(
    "/{deployment}/events",
    summary="Follow a deployment: states, lines of its build's log, and the problem it fails with",
    response_class=StreamingResponse,
    responses=errors(UNKNOWN, (400, "last_event_id_invalid", "Last-Event-ID is not one that this stream has sent"))
    | answers(CONTENT_TYPE, example=EVENTS, description="Server-sent events; ends with `ready` or `failed`."),
)
async def follow_deployment(
    deployment: Id,
    request: Request,
    caller: AgentsRead,
    service: Service,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
) -> StreamingResponse:
    after = last_number(last_event_id)
    await service.get(caller.organization, deployment)
    settings: Settings = request.app.state.settings
    events = service.events(caller.organization, deployment, after=after)
    return event_stream(events, keep_alive=settings.runs.keep_alive, allowed=while_valid(request, caller))
