"""/agents/{name}/logs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import StreamingResponse

from control_api.agents.paths import Name
from control_api.authorization import LogsRead
from control_api.logs.service import LogsService
from control_api.openapi import answers, errors
from control_api.settings import Settings
from control_api.streaming import kept_alive

router = APIRouter(prefix="/agents/{name}/logs", tags=["logs"])

CONTENT_TYPE = "application/x-ndjson"
EXAMPLE = (
    '{"at": "2026-11-24T14:00:00.000Z", "instance": "triage-00003-1a2b", "stream": "stdout", '
    '"run": "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b", "line": "looking at issue 12"}\n'
)


def provide(request: Request) -> LogsService:
    service: LogsService = request.app.state.logs
    return service


@router.get(
    "",
    summary="What an agent's instances wrote, as JSON lines, oldest first",
    response_class=StreamingResponse,
    responses=errors(
        (404, "agent_not_found", "There is no agent triage"),
        (404, "revision_not_found", "triage has no revision triage-00009"),
    )
    | answers(CONTENT_TYPE, example=EXAMPLE, description="JSON lines; an empty one only keeps the connection."),
)
async def read_logs(
    name: Name,
    request: Request,
    caller: LogsRead,
    service: Annotated[LogsService, Depends(provide)],
    revision: Annotated[
        str | None, Query(description="Only this one's; by default those that are not retired.")
    ] = None,
    follow: Annotated[bool, Query(description="Go on with new lines as they come.")] = False,
) -> StreamingResponse:
    await service.revisions(caller.organization, name, revision)
    settings: Settings = request.app.state.settings
    read = service.follow if follow else service.read
    lines = kept_alive(read(caller.organization, name, revision), silence=settings.runs.keep_alive, filler=b"\n")
    return StreamingResponse(lines, media_type=CONTENT_TYPE)
