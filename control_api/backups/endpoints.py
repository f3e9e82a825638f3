"""POST /backups."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_api.authorization import BackupsWrite
from control_api.backups.schemas import BackupView
from control_api.backups.service import BackupService
from control_api.openapi import errors

router = APIRouter(prefix="/backups", tags=["backups"])


def provide(request: Request) -> BackupService:
    service: BackupService = request.app.state.backups
    return service


@router.post(
    "",
    status_code=201,
    summary="Write a backup of the database while it is in use",
    responses=errors((503, "backup_failed", "The backup failed: No space left on device")),
)
async def create_backup(caller: BackupsWrite, service: Annotated[BackupService, Depends(provide)]) -> BackupView:
    return await service.create()
