"""/members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import MembersRead, MembersWrite
from control_api.members.schemas import MemberView, RoleRequest
from control_api.members.service import MembersService
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, ROLE_ABOVE, errors
from control_api.paging import After, Limit, Page

router = APIRouter(prefix="/members", tags=["members"])

UNKNOWN = (404, "member_unknown", "There is no member 0193a5b0-7c00-7000-8000-000000000002")
LAST = (409, "last_owner", "Ada is the only owner of the organization")


def provide(request: Request) -> MembersService:
    service: MembersService = request.app.state.members
    return service


Service = Annotated[MembersService, Depends(provide)]
Member = Annotated[str, Path(description="Id of the person.")]


@router.get("", summary="List the members", responses=errors(CURSOR_INVALID))
async def list_members(caller: MembersRead, service: Service, after: After, limit: Limit = 50) -> Page[MemberView]:
    return await service.page(caller, after=after, limit=limit)


@router.patch(
    "/{member}", summary="Give a member another role", responses=errors(BODY_TOO_LARGE, UNKNOWN, ROLE_ABOVE, LAST)
)
async def change_member(member: Member, body: RoleRequest, caller: MembersWrite, service: Service) -> MemberView:
    return await service.set_role(caller, member, body.role)


@router.delete(
    "/{member}",
    status_code=204,
    summary="Remove a member: their keys stop at once, and their agents become yours",
    responses=errors(UNKNOWN, ROLE_ABOVE, LAST),
)
async def remove_member(member: Member, caller: MembersWrite, service: Service) -> None:
    await service.remove(caller, member)
