"""/organization, /organizations and /whoami."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_api.authorization import OrganizationRead, OrganizationWrite, SelfRead
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, errors
from control_api.organizations.schemas import MembershipView, OrganizationRequest, OrganizationView, SelfView
from control_api.organizations.service import OrganizationsService
from control_api.paging import After, Limit, Page

router = APIRouter(tags=["organizations"])


def provide(request: Request) -> OrganizationsService:
    service: OrganizationsService = request.app.state.organizations
    return service


Service = Annotated[OrganizationsService, Depends(provide)]


@router.get(
    "/whoami", summary="Show who this credential is, in which organization, and what it may do", responses=errors()
)
async def who_am_i(caller: SelfRead, service: Service) -> SelfView:
    return await service.who(caller)


@router.get("/organization", summary="Show the organization of this credential", responses=errors())
async def get_organization(caller: OrganizationRead, service: Service) -> OrganizationView:
    return await service.get(caller)


@router.patch(
    "/organization",
    summary="Rename the organization of this credential; its hosts are called after it from then on",
    responses=errors(BODY_TOO_LARGE, (409, "name_taken", "There is an organization acme already")),
)
async def rename_organization(
    body: OrganizationRequest, caller: OrganizationWrite, service: Service
) -> OrganizationView:
    return await service.rename(caller, body.name)


@router.get(
    "/organizations",
    summary="List the organizations that the person behind this credential belongs to, by name",
    responses=errors(CURSOR_INVALID),
)
async def list_organizations(
    caller: OrganizationRead, service: Service, after: After, limit: Limit = 50
) -> Page[MembershipView]:
    return await service.mine(caller, after=after, limit=limit)
