"""GET /metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse

from control_api.authorization import MetricsRead
from control_api.metrics.service import Metrics
from control_api.openapi import answers, errors

router = APIRouter(prefix="/metrics", tags=["metrics"])

CONTENT_TYPE = "text/plain; version=0.0.4"
EXAMPLE = 'orchestrator_runs_total{agent="triage",state="succeeded"} 12.0\n'


def provide(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


@router.get(
    "",
    summary="Metrics of API, gateway, agents, runs and steps for Prometheus",
    response_class=PlainTextResponse,
    responses={**errors(), **answers(CONTENT_TYPE, example=EXAMPLE)},
)
async def metrics(caller: MetricsRead, service: Annotated[Metrics, Depends(provide)]) -> PlainTextResponse:
    return PlainTextResponse(await service.page(), media_type=CONTENT_TYPE)
