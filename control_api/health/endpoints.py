"""GET /health."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from control_api.authorization import HealthRead
from control_api.health.schemas import HealthView
from control_api.health.service import HealthService
from control_api.openapi import errors

router = APIRouter(prefix="/health", tags=["health"])


def provide(request: Request) -> HealthService:
    service: HealthService = request.app.state.health
    return service


@router.get(
    "",
    summary="Say whether every part works",
    responses=errors((503, "unhealthy", "Not available: gateway")),
)
async def health(caller: HealthRead, service: Annotated[HealthService, Depends(provide)]) -> HealthView:
    return await service.look()
