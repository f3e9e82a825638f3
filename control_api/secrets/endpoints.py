"""/secrets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import SecretsRead, SecretsWrite
from control_api.openapi import BODY_TOO_LARGE, errors
from control_api.paging import After, Limit, Page
from control_api.secrets.schemas import SecretRequest, SecretView
from control_api.secrets.service import SecretsService
from domain.manifest import VARIABLE

router = APIRouter(prefix="/secrets", tags=["secrets"])


def provide(request: Request) -> SecretsService:
    service: SecretsService = request.app.state.secrets
    return service


Service = Annotated[SecretsService, Depends(provide)]
Name = Annotated[str, Path(pattern=VARIABLE, max_length=200, description="The environment variable it becomes.")]


@router.get(
    "",
    summary="List the names of secrets; values cannot be read back",
    responses=errors((400, "cursor_invalid", "The cursor is not one of ours")),
)
async def list_secrets(caller: SecretsRead, service: Service, after: After, limit: Limit = 50) -> Page[SecretView]:
    return await service.page(caller.organization, after=after, limit=limit)


@router.put("/{name}", status_code=204, summary="Set a secret", responses=errors(BODY_TOO_LARGE))
async def put_secret(name: Name, body: SecretRequest, caller: SecretsWrite, service: Service) -> None:
    await service.put(caller.organization, name, body.value.get_secret_value())


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a secret; agents that name it cannot start any more",
    responses=errors((404, "secret_unknown", "There is no secret OPENAI_API_KEY")),
)
async def delete_secret(name: Name, caller: SecretsWrite, service: Service) -> None:
    await service.remove(caller.organization, name)
