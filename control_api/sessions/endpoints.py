"""/sessions, and /agents/{name}/sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from control_api.agents.paths import Name
from control_api.authorization import SessionsRead, SessionsWrite
from control_api.openapi import CURSOR_INVALID, errors
from control_api.paging import Cursor, Limit, Page
from control_api.sessions.schemas import SessionDetails, SessionView
from control_api.sessions.service import SessionsService

router = APIRouter(tags=["sessions"])

UNKNOWN = (404, "session_unknown", "triage has no session customer-42")


def provide(request: Request) -> SessionsService:
    service: SessionsService = request.app.state.sessions
    return service


Service = Annotated[SessionsService, Depends(provide)]
Session = Annotated[str, Path(description="The session's name.")]


@router.get("/sessions", summary="List sessions, the one with the newest run first", responses=errors(CURSOR_INVALID))
async def list_sessions(
    caller: SessionsRead,
    service: Service,
    agent: Annotated[str | None, Query(description="Only this agent's.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SessionView]:
    return await service.page(caller.organization, agent=agent, cursor=cursor, limit=limit)


@router.get("/agents/{name}/sessions", summary="List an agent's sessions", responses=errors(CURSOR_INVALID))
async def list_sessions_of_agent(
    name: Name, caller: SessionsRead, service: Service, limit: Limit = 50, cursor: Cursor = None
) -> Page[SessionView]:
    return await service.page(caller.organization, agent=name, cursor=cursor, limit=limit)


# `:path`, because a caller may have put a slash into the name.
@router.get("/agents/{name}/sessions/{session:path}", summary="Show a session", responses=errors(UNKNOWN))
async def get_session(name: Name, session: Session, caller: SessionsRead, service: Service) -> SessionDetails:
    return await service.get(caller.organization, name, session)


@router.delete(
    "/agents/{name}/sessions/{session:path}",
    summary="Delete a session and its state; its runs stay",
    status_code=204,
    responses=errors(UNKNOWN, (409, "session_busy", "The session customer-42 has runs that have not ended")),
)
async def delete_session(name: Name, session: Session, caller: SessionsWrite, service: Service) -> None:
    await service.delete(caller.organization, name, session)
