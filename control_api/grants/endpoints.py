"""/agents/{name}/owner and /agents/{name}/grants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.agents.paths import NO_AGENT, Name
from control_api.authorization import AgentsRead, AgentsShare
from control_api.grants.schemas import GrantRequest, GrantView, OwnerRequest
from control_api.grants.service import GrantsService
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, errors
from control_api.organizations.principals import PrincipalView
from control_api.paging import After, Limit, Page

router = APIRouter(prefix="/agents/{name}", tags=["grants"])

NOBODY = (404, "principal_unknown", "Nobody in the organization has the id 0193a5b0-7c00-7000-8000-000000000002")


def provide(request: Request) -> GrantsService:
    service: GrantsService = request.app.state.grants
    return service


Service = Annotated[GrantsService, Depends(provide)]
Principal = Annotated[str, Path(description="Id of a person or a service account.")]


@router.put(
    "/owner",
    summary="Hand an agent over to another owner",
    responses=errors(
        BODY_TOO_LARGE,
        NO_AGENT,
        NOBODY,
        (409, "owner_makes_none", "The role viewer may not make agents, so it may not own one"),
    ),
)
async def put_owner(name: Name, body: OwnerRequest, caller: AgentsShare, service: Service) -> PrincipalView:
    return await service.hand_over(caller, name, body.principal)


@router.get("/grants", summary="List who has a role on this agent", responses=errors(NO_AGENT, CURSOR_INVALID))
async def list_grants(
    name: Name, caller: AgentsRead, service: Service, after: After, limit: Limit = 50
) -> Page[GrantView]:
    return await service.page(caller, name, after=after, limit=limit)


@router.put(
    "/grants/{principal}",
    status_code=204,
    summary="Give somebody a role on this agent",
    responses=errors(BODY_TOO_LARGE, NO_AGENT, NOBODY),
)
async def put_grant(
    name: Name, principal: Principal, body: GrantRequest, caller: AgentsShare, service: Service
) -> None:
    await service.put(caller, name, principal, body.role)


@router.delete(
    "/grants/{principal}",
    status_code=204,
    summary="Take somebody's role on this agent away",
    responses=errors(NO_AGENT, (404, "grant_unknown", "0193a5b0-7c00-7000-8000-000000000002 has no grant on triage")),
)
async def delete_grant(name: Name, principal: Principal, caller: AgentsShare, service: Service) -> None:
    await service.remove(caller, name, principal)
