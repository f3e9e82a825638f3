"""/agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import StreamingResponse

from control_api.agents.paths import NO_AGENT, Name
from control_api.agents.schemas import AgentView, RollbackRequest, TrafficRequest
from control_api.agents.service import AgentsService
from control_api.authorization import AgentsRead, AgentsWrite, TrafficWrite, while_valid
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, answers, errors
from control_api.paging import After, Limit, Page
from control_api.settings import Settings
from control_api.streaming import CONTENT_TYPE, event_stream

router = APIRouter(prefix="/agents", tags=["agents"])

NOT_READY = (409, "revision_not_ready", "triage-00004 is failed and cannot get calls")
NO_REVISION = (422, "revision_unknown", "The agent has no revision triage-00009")
EVENTS = 'id: 5d1f…\nevent: agent\ndata: {"name": "triage", "state": "idle", …}\n\n'


def provide(request: Request) -> AgentsService:
    service: AgentsService = request.app.state.agents
    return service


Service = Annotated[AgentsService, Depends(provide)]


@router.get("", summary="List agents by name", responses=errors(CURSOR_INVALID))
async def list_agents(caller: AgentsRead, service: Service, after: After, limit: Limit = 50) -> Page[AgentView]:
    return await service.page(caller.organization, after=after, limit=limit)


@router.get("/{name}", summary="Show an agent: what serves, its revisions and instances", responses=errors(NO_AGENT))
async def get_agent(name: Name, caller: AgentsRead, service: Service) -> AgentView:
    return await service.get(caller.organization, name)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete an agent: it gets no calls any more; open runs end, and all runs stay on record",
    responses=errors(NO_AGENT),
)
async def delete_agent(name: Name, caller: AgentsWrite, service: Service) -> None:
    await service.remove(caller.organization, name)


@router.put(
    "/{name}/traffic",
    summary="Split an agent's calls between revisions, and give revisions tags",
    responses=errors(
        BODY_TOO_LARGE,
        NO_AGENT,
        NOT_READY,
        NO_REVISION,
        (422, "traffic_invalid", "The percentages sum to 90 and not to 100"),
    ),
)
async def put_traffic(name: Name, body: TrafficRequest, caller: TrafficWrite, service: Service) -> AgentView:
    return await service.split(caller.organization, name, body.targets)


@router.post(
    "/{name}/rollback",
    summary="Give all calls to an earlier revision; by default the one before what serves",
    responses=errors(
        BODY_TOO_LARGE,
        NO_AGENT,
        NOT_READY,
        NO_REVISION,
        (409, "nothing_before", "triage has no ready revision before the one that serves"),
    ),
)
async def roll_back(name: Name, body: RollbackRequest, caller: TrafficWrite, service: Service) -> AgentView:
    return await service.roll_back(caller.organization, name, body.revision)


@router.get(
    "/{name}/events",
    summary="Follow an agent: its state now, then again at every change of agent, revisions or instances",
    response_class=StreamingResponse,
    responses=errors(NO_AGENT)
    | answers(CONTENT_TYPE, example=EVENTS, description="Server-sent events `agent`; `deleted` is the last."),
)
async def follow_agent(
    name: Name,
    request: Request,
    caller: AgentsRead,
    service: Service,
    last_event_id: Annotated[str | None, Header(description="The last state that was seen.")] = None,
) -> StreamingResponse:
    await service.get(caller.organization, name)
    settings: Settings = request.app.state.settings
    events = service.events(caller.organization, name, last=last_event_id)
    return event_stream(events, keep_alive=settings.runs.keep_alive, allowed=while_valid(request, caller))
