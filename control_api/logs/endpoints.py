"""/agents/{name}/logs and /runs/{run}/logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import StreamingResponse

from control_api.agents.paths import NO_AGENT, Name
from control_api.authorization import Credential, LogsRead, while_valid
from control_api.logs.lines import shown
from control_api.logs.service import LogsService
from control_api.openapi import answers, errors
from control_api.settings import Settings
from control_api.streaming import kept_alive

router = APIRouter(tags=["logs"])

CONTENT_TYPE = "application/x-ndjson"
EXAMPLE = (
    '{"at": "2026-11-24T14:00:00.000Z", "instance": "triage-00003-1a2b", "stream": "stdout", '
    '"run": "0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b", "line": "looking at issue 12"}\n'
)


def provide(request: Request) -> LogsService:
    service: LogsService = request.app.state.logs
    return service


Service = Annotated[LogsService, Depends(provide)]


@router.get(
    "/agents/{name}/logs",
    summary="What an agent's instances wrote, as JSON lines, oldest first",
    response_class=StreamingResponse,
    responses=errors(NO_AGENT, (404, "revision_unknown", "triage has no revision triage-00009"))
    | answers(CONTENT_TYPE, example=EXAMPLE, description="JSON lines; an empty one only keeps the connection."),
)
async def read_logs(
    name: Name,
    request: Request,
    caller: LogsRead,
    service: Service,
    revision: Annotated[
        str | None, Query(description="Only this one's; by default those that are not retired.")
    ] = None,
    follow: Annotated[bool, Query(description="Go on with new lines as they come.")] = False,
) -> StreamingResponse:
    await service.revisions(caller.organization, name, revision)
    read = service.follow if follow else service.read
    return _streamed(request, caller, read(caller.organization, name, revision))


@router.get(
    "/runs/{run}/logs",
    summary="What was written while working on a run, as JSON lines, oldest first",
    response_class=StreamingResponse,
    responses=errors((404, "run_unknown", "There is no run 0193a5b0-7c3e-7d4f-9a6b-2c1d0e9f8a7b"))
    | answers(CONTENT_TYPE, example=EXAMPLE, description="JSON lines; an empty one only keeps the connection."),
)
async def read_run_logs(
    run: Annotated[str, Path(description="Id of the run.")],
    request: Request,
    caller: LogsRead,
    service: Service,
    follow: Annotated[bool, Query(description="Go on with new lines until the run has ended.")] = False,
) -> StreamingResponse:
    await service.check_run(caller.organization, run)
    read = service.follow_run if follow else service.read_run
    return _streamed(request, caller, read(caller.organization, run))


async def _shown(lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        async for line in lines:
            yield shown(line)


def _streamed(request: Request, caller: Credential, lines: AsyncGenerator[bytes]) -> StreamingResponse:
    settings: Settings = request.app.state.settings
    allowed = while_valid(request, caller)
    alive = kept_alive(_shown(lines), silence=settings.runs.keep_alive, filler=b"\n", allowed=allowed)
    return StreamingResponse(alive, media_type=CONTENT_TYPE)
