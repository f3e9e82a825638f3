"""/service-accounts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import ServiceAccountsRead, ServiceAccountsWrite
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, NO_ACCOUNT, ROLE_ABOVE, errors
from control_api.paging import After, Limit, Page
from control_api.service_accounts.schemas import ServiceAccountRequest, ServiceAccountView
from control_api.service_accounts.service import ServiceAccountsService

router = APIRouter(prefix="/service-accounts", tags=["service accounts"])


def provide(request: Request) -> ServiceAccountsService:
    service: ServiceAccountsService = request.app.state.service_accounts
    return service


Service = Annotated[ServiceAccountsService, Depends(provide)]


@router.get("", summary="List the service accounts by name", responses=errors(CURSOR_INVALID))
async def list_service_accounts(
    caller: ServiceAccountsRead, service: Service, after: After, limit: Limit = 50
) -> Page[ServiceAccountView]:
    return await service.page(caller, after=after, limit=limit)


@router.post(
    "",
    status_code=201,
    summary="Make a service account; its keys are made at /keys",
    responses=errors(BODY_TOO_LARGE, ROLE_ABOVE, (409, "name_taken", "There is a service account deployer already")),
)
async def create_service_account(
    body: ServiceAccountRequest, caller: ServiceAccountsWrite, service: Service
) -> ServiceAccountView:
    return await service.create(caller, body.name, body.role)


@router.delete(
    "/{account}",
    status_code=204,
    summary="Remove a service account: its keys stop at once, and its agents become yours",
    responses=errors(ROLE_ABOVE, NO_ACCOUNT),
)
async def remove_service_account(
    account: Annotated[str, Path(description="Id of the service account.")],
    caller: ServiceAccountsWrite,
    service: Service,
) -> None:
    await service.remove(caller, account)
