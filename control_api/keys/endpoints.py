"""/keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import KeysRead, KeysWrite
from control_api.keys.schemas import KeyRequest, KeyView, NewKeyView
from control_api.keys.service import KeysService
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, NO_ACCOUNT, ROLE_ABOVE, errors
from control_api.paging import After, Limit, Page

router = APIRouter(prefix="/keys", tags=["keys"])

UNKNOWN = (404, "key_unknown", "There is no key 0193a5b0-7c00-7000-8000-000000000004")
EXCEEDS = (403, "key_exceeds", "The key would do more than the one it is asked for with")
ANOTHER = (403, "key_of_another", "This is the key of another person")
OF_HOME = (409, "key_of_home", "This key is the one in the home folder")


def provide(request: Request) -> KeysService:
    service: KeysService = request.app.state.keys
    return service


Service = Annotated[KeysService, Depends(provide)]
Key = Annotated[str, Path(description="Id of the key.")]


@router.get(
    "",
    summary="List your API keys, newest first; who may manage keys sees all of the organization",
    responses=errors(CURSOR_INVALID),
)
async def list_keys(caller: KeysRead, service: Service, after: After, limit: Limit = 50) -> Page[KeyView]:
    return await service.page(caller, after=after, limit=limit)


@router.post(
    "",
    status_code=201,
    summary="Make an API key for yourself or a service account; its token is shown once",
    responses=errors(
        BODY_TOO_LARGE, ROLE_ABOVE, EXCEEDS, NO_ACCOUNT, (422, "expiry_invalid", "`expires_at` is in the past")
    ),
)
async def create_key(body: KeyRequest, caller: KeysWrite, service: Service) -> NewKeyView:
    return await service.create(caller, body)


@router.post(
    "/{key}/rotate",
    summary="Give an API key another token, which is shown once; the one before stops at once",
    responses=errors(UNKNOWN, ROLE_ABOVE, EXCEEDS, ANOTHER, OF_HOME),
)
async def rotate_key(key: Key, caller: KeysWrite, service: Service) -> NewKeyView:
    return await service.rotate(caller, key)


@router.delete(
    "/{key}",
    status_code=204,
    summary="Revoke an API key: it stops at once",
    responses=errors(UNKNOWN, ROLE_ABOVE, OF_HOME),
)
async def revoke_key(key: Key, caller: KeysWrite, service: Service) -> None:
    await service.revoke(caller, key)
