"""/invitations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import InvitationsAccept, InvitationsRead, InvitationsWrite
from control_api.invitations.schemas import (
    AcceptedView,
    AcceptRequest,
    InvitationRequest,
    InvitationView,
    NewInvitationView,
)
from control_api.invitations.service import InvitationsService
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, ROLE_ABOVE, errors
from control_api.paging import After, Limit, Page

router = APIRouter(prefix="/invitations", tags=["invitations"])

UNKNOWN = (404, "invitation_unknown", "There is no such invitation")
USED = (409, "invitation_used", "The invitation was accepted already")
ALREADY = (409, "member_already", "ada@example.org belongs to the organization already")


def provide(request: Request) -> InvitationsService:
    service: InvitationsService = request.app.state.invitations
    return service


Service = Annotated[InvitationsService, Depends(provide)]


@router.get("", summary="List invitations, newest first, also those that are over", responses=errors(CURSOR_INVALID))
async def list_invitations(
    caller: InvitationsRead, service: Service, after: After, limit: Limit = 50
) -> Page[InvitationView]:
    return await service.page(caller, after=after, limit=limit)


@router.post(
    "",
    status_code=201,
    summary="Invite a person; the token for them is shown once",
    responses=errors(
        BODY_TOO_LARGE,
        ALREADY,
        ROLE_ABOVE,
        (422, "expiry_invalid", "An invitation is open for 30 days at most"),
    ),
)
async def create_invitation(body: InvitationRequest, caller: InvitationsWrite, service: Service) -> NewInvitationView:
    return await service.create(caller, body)


@router.post(
    "/accept",
    status_code=201,
    summary="Accept an invitation: as a new person without a credential, or with a key of yours",
    responses=errors(
        BODY_TOO_LARGE,
        UNKNOWN,
        USED,
        ALREADY,
        (409, "invitation_revoked", "The invitation was revoked"),
        (409, "invitation_expired", "The invitation has expired"),
        (409, "person_known", "ada@example.org is a person here already"),
        (403, "invitation_of_another", "This invitation is for somebody else"),
        (422, "person_missing", "Who are you? `name` and `email` are needed without a credential"),
    ),
)
async def accept_invitation(body: AcceptRequest, caller: InvitationsAccept, service: Service) -> AcceptedView:
    return await service.accept(caller, body)


@router.delete("/{invitation}", status_code=204, summary="Revoke an invitation", responses=errors(UNKNOWN, USED))
async def revoke_invitation(
    invitation: Annotated[str, Path(description="Id of the invitation.")], caller: InvitationsWrite, service: Service
) -> None:
    await service.revoke(caller, invitation)
