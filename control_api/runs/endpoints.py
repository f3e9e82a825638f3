"""/runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from control_api.authorization import RunsRead, RunsWrite, while_valid
from control_api.openapi import CURSOR_INVALID, errors
from control_api.paging import After, Limit, Page
from control_api.runs.repository import Filter
from control_api.runs.schemas import EVENT, EventView, RunDetails, RunView, StepView
from control_api.runs.service import Content, RunsService
from control_api.settings import Settings
from control_api.streaming import CONTENT_TYPE, event_stream, last_number
from orchestrator_runtime.contract.states import RunState

router = APIRouter(prefix="/runs", tags=["runs"])

UNKNOWN = (404, "run_unknown", "There is no run 0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b")
STREAM = 'id: 1\nevent: run.started\ndata: {"seq": 1}\n\nid: 2\nevent: run.succeeded\ndata: {"seq": 2}\n\n'
PAGE_OR_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or server-sent events that end with the run.",
        "content": {
            "application/json": {"example": {"items": [EVENT], "next": None}},
            CONTENT_TYPE: {"schema": {"type": "string"}, "example": STREAM},
        },
    }
}
# An agent's bytes are never to be taken for a page of ours.
UNTRUSTED = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'"}


def provide(request: Request) -> RunsService:
    service: RunsService = request.app.state.runs
    return service


Service = Annotated[RunsService, Depends(provide)]
Id = Annotated[str, Path(description="Id of the run.")]


def _bytes(description: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {"*/*": {"schema": schema, "example": '{"label": "bug"}'}}}}


def _response(content: Content) -> Response:
    return Response(content.body, media_type=content.content_type, headers=UNTRUSTED)


@router.get("", summary="List runs, newest first", responses=errors(CURSOR_INVALID))
async def list_runs(
    caller: RunsRead,
    service: Service,
    after: After,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    state: Annotated[RunState | None, Query(description="Only runs in this state.")] = None,
    session: Annotated[str | None, Query(description="Only runs of this session.")] = None,
    limit: Limit = 50,
) -> Page[RunView]:
    return await service.page(caller.organization, Filter(agent, state, session), after=after, limit=limit)


@router.get("/{run}", summary="Show a run and its attempts", responses=errors(UNKNOWN))
async def get_run(run: Id, caller: RunsRead, service: Service) -> RunDetails:
    return await service.get(caller.organization, run)


@router.get(
    "/{run}/steps", summary="List a run's steps, in the order they began", responses=errors(UNKNOWN, CURSOR_INVALID)
)
async def list_steps(run: Id, caller: RunsRead, service: Service, after: After, limit: Limit = 50) -> Page[StepView]:
    return await service.steps(caller.organization, run, after=after, limit=limit)


@router.get(
    "/{run}/events",
    summary="List a run's events; with `Accept: text/event-stream`, follow them until the run ends",
    response_model=Page[EventView],
    responses=PAGE_OR_STREAM
    | errors(
        UNKNOWN, CURSOR_INVALID, (400, "last_event_id_invalid", "Last-Event-ID is not one that this stream has sent")
    ),
)
async def list_events(
    run: Id,
    request: Request,
    caller: RunsRead,
    service: Service,
    after: After,
    limit: Limit = 200,
    accept: Annotated[str, Header(description="text/event-stream to follow the run.")] = "application/json",
    last_event_id: Annotated[str | None, Header(description="A stream goes on after this event.")] = None,
) -> Page[EventView] | StreamingResponse:
    if CONTENT_TYPE not in accept:
        return await service.events(caller.organization, run, after=last_number(after), limit=limit)
    last = last_number(last_event_id)
    await service.get(caller.organization, run)
    settings: Settings = request.app.state.settings
    events = service.follow(caller.organization, run, after=last)
    return event_stream(events, keep_alive=settings.runs.keep_alive, allowed=while_valid(request, caller))


@router.get(
    "/{run}/events/{seq}/content",
    summary="The content of one event, byte for byte: a step's input or result, a part of the answer",
    response_class=Response,
    responses=errors(UNKNOWN, (404, "event_unknown", "The run has no event 7")) | _bytes("The content."),
)
async def get_content(run: Id, seq: Annotated[int, Path(ge=1)], caller: RunsRead, service: Service) -> Response:
    return _response(await service.content(caller.organization, run, seq))


@router.get(
    "/{run}/input",
    summary="What the run was called with, byte for byte",
    response_class=Response,
    responses=errors(UNKNOWN) | _bytes("The input, with the content type it came with."),
)
async def get_input(run: Id, caller: RunsRead, service: Service) -> Response:
    return _response(await service.input(caller.organization, run))


@router.get(
    "/{run}/output",
    summary="What the run answered, byte for byte; its problem document if it failed without an answer",
    response_class=Response,
    responses=errors(UNKNOWN, (409, "run_not_ended", "The run is running"))
    | _bytes("The answer, with the content type it went out with."),
)
async def get_output(run: Id, caller: RunsRead, service: Service) -> Response:
    return _response(await service.output(caller.organization, run))


@router.post(
    "/{run}/cancel",
    summary="Ask a run to stop; what does not stop within its grace period is ended",
    status_code=202,
    responses=errors(UNKNOWN),
)
async def cancel_run(run: Id, caller: RunsWrite, service: Service) -> RunDetails:
    return await service.cancel(caller.organization, run)


@router.post(
    "/{run}/retry",
    summary="Give a failed run another attempt",
    status_code=202,
    responses=errors(UNKNOWN, (409, "run_not_failed", "The run is succeeded")),
)
async def retry_run(run: Id, caller: RunsWrite, service: Service) -> RunDetails:
    return await service.retry(caller.organization, run)
