"""/secrets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from control_api.authorization import SecretsRead, SecretsWrite
from control_api.openapi import BODY_TOO_LARGE, CURSOR_INVALID, errors
from control_api.paging import After, Limit, Page
from control_api.secrets.schemas import RollbackRequest, SecretRequest, SecretVersionView, SecretView
from control_api.secrets.service import SecretsService
from domain.manifest import VARIABLE

router = APIRouter(prefix="/secrets", tags=["secrets"])


def provide(request: Request) -> SecretsService:
    service: SecretsService = request.app.state.secrets
    return service


Service = Annotated[SecretsService, Depends(provide)]
Name = Annotated[str, Path(pattern=VARIABLE, max_length=200, description="The environment variable it becomes.")]

Version = Annotated[int, Path(ge=1, le=2**31 - 1, description="Its number.")]
UNKNOWN = (404, "secret_unknown", "There is no secret OPENAI_API_KEY")
UNKNOWN_VERSION = (404, "secret_version_unknown", "OPENAI_API_KEY has no version 7")


@router.get("", summary="List the names of secrets; values cannot be read back", responses=errors(CURSOR_INVALID))
async def list_secrets(caller: SecretsRead, service: Service, after: After, limit: Limit = 50) -> Page[SecretView]:
    return await service.page(caller.organization, after=after, limit=limit)


@router.put(
    "/{name}",
    status_code=204,
    summary="Set a secret to a value, or to one in Vault; the versions before are kept",
    responses=errors(
        BODY_TOO_LARGE,
        (409, "vault_not_set_up", "vault:openai#api_key is in Vault, and no Vault is set up"),
        (409, "vault_missing", "Vault has no value orchestrator/ID/openai"),
        (422, "reference_invalid", "'vault:openai' is no reference"),
        (503, "vault_sealed", "Vault is sealed or in standby"),
    ),
)
async def put_secret(name: Name, body: SecretRequest, caller: SecretsWrite, service: Service) -> None:
    if body.reference is not None:
        await service.refer(caller.organization, name, body.reference)
    elif body.value is not None:
        await service.put(caller.organization, name, body.value.get_secret_value())


@router.get("/{name}/versions", summary="List the versions of a secret, newest first", responses=errors(UNKNOWN))
async def list_secret_versions(name: Name, caller: SecretsRead, service: Service) -> Page[SecretVersionView]:
    return await service.versions(caller.organization, name)


@router.post(
    "/{name}/rollback",
    summary="Use a version of a secret again",
    responses=errors(BODY_TOO_LARGE, UNKNOWN, UNKNOWN_VERSION),
)
async def roll_back_secret(name: Name, body: RollbackRequest, caller: SecretsWrite, service: Service) -> SecretView:
    return await service.roll_back(caller.organization, name, body.version)


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    summary="Remove a version of a secret that is not in use",
    responses=errors(UNKNOWN, UNKNOWN_VERSION, (409, "secret_version_in_use", "Version 2 of OPENAI_API_KEY is in use")),
)
async def delete_secret_version(name: Name, version: Version, caller: SecretsWrite, service: Service) -> None:
    await service.remove_version(caller.organization, name, version)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a secret with all versions; agents that name it cannot start any more",
    responses=errors(UNKNOWN),
)
async def delete_secret(name: Name, caller: SecretsWrite, service: Service) -> None:
    await service.remove(caller.organization, name)
