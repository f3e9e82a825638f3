"""/encryption."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_api.authorization import EncryptionRead, EncryptionWrite, MasterWrite
from control_api.encryption.schemas import EncryptionView
from control_api.encryption.service import EncryptionService
from control_api.openapi import errors

router = APIRouter(prefix="/encryption", tags=["encryption"])


def provide(request: Request) -> EncryptionService:
    service: EncryptionService = request.app.state.encryption
    return service


Service = Annotated[EncryptionService, Depends(provide)]


@router.get("", summary="Show which keys are in use", responses=errors())
async def get_encryption(caller: EncryptionRead, service: Service) -> EncryptionView:
    return await service.look(caller.organization)


@router.post(
    "/rotation",
    status_code=202,
    summary="Replace the organization's key; what the former one sealed is sealed anew in the background",
    responses=errors((409, "rotation_unfinished", "The rotation before is not finished yet")),
)
async def rotate_key(caller: EncryptionWrite, service: Service) -> EncryptionView:
    return await service.rotate(caller.organization)


@router.post(
    "/master/rotation",
    summary="Replace the installation's master key, and wrap every organization's key anew",
    responses=errors(
        (409, "master_key_outside", "The master key is in the environment, where the platform cannot put another one"),
        (503, "vault_sealed", "Vault is sealed or in standby"),
        (503, "vault_unreachable", "Vault gave no answer"),
    ),
)
async def rotate_master_key(caller: MasterWrite, service: Service) -> EncryptionView:
    return await service.rotate_master(caller.organization)
