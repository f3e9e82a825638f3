"""Who asks, and whether they may: the one place where the API decides it.

Every endpoint declares one permission by depending on `allowed("…")`; `tests/unit/api/test_authorization.py` walks all
routes and fails for one that does not. A token is 256 random bits, so its plain SHA-256 is enough to store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from orchestrator_runtime.contract.errors import Forbidden, Unauthenticated

EVERYTHING = "*"
TOKEN_PREFIX = "orc_"  # noqa: S105 - lets secret scanners recognise a leaked token

PERMISSIONS: Final = frozenset(
    {
        "agents:read",
        "agents:invoke",
        "agents:write",
        "backups:write",
        "docs:read",
        "logs:read",
        "metrics:read",
        "health:read",
        "runs:read",
        "runs:write",
        "secrets:read",
        "secrets:write",
        "sessions:read",
        "sessions:write",
    }
)


@dataclass(frozen=True, slots=True)
class Credential:
    """A way in: whose it is and what it may do. `permissions` may hold `*`."""

    id: str
    digest: str  # SHA-256 of the token, hex
    organization: str
    permissions: frozenset[str]

    def may(self, permission: str) -> bool:
        return EVERYTHING in self.permissions or permission in self.permissions


def new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Credentials:
    """All credentials, in memory: they are few, and the server is the only one who changes them."""

    def __init__(self, credentials: list[Credential]) -> None:
        self._by_digest = {credential.digest: credential for credential in credentials}

    def all(self) -> list[Credential]:
        return list(self._by_digest.values())

    def find(self, token: str) -> Credential | None:
        return self._by_digest.get(token_digest(token))


class Allowed:
    """The dependency behind `allowed`: the caller's credential, if it has the permission.

    Raises `Unauthenticated` (`unauthenticated`) or `Forbidden` (`permission_missing`).
    """

    def __init__(self, permission: str) -> None:
        assert permission in PERMISSIONS, f"{permission} is not in the list of permissions"
        self.permission = permission

    async def __call__(self, request: Request) -> Credential:
        browser = self.permission == "docs:read"
        token = _token(request.headers.get("authorization", ""), browser=browser)
        if token is None:
            raise Unauthenticated(
                "This needs a credential",
                code="unauthenticated",
                hint="Send Authorization: Bearer TOKEN; the owner's is in the file owner-token of the home folder.",
                browser=browser,
            )
        credentials: Credentials = request.app.state.credentials
        credential = credentials.find(token)
        if credential is None:
            raise Unauthenticated(
                "Nobody has this token",
                code="unauthenticated",
                hint="Take the token from the file owner-token of the home folder.",
                browser=browser,
            )
        if not credential.may(self.permission):
            raise Forbidden(
                f"This credential lacks the permission {self.permission}",
                code="permission_missing",
                hint="Ask the owner of the organization for it.",
            )
        return credential


def allowed(permission: str) -> Allowed:
    return Allowed(permission)


def _token(header: str, *, browser: bool) -> str | None:
    """The token of an Authorization header.

    A browser that opens the documentation can only send Basic credentials (any name, the token as password). They are
    taken there alone: a browser adds them to every request, also to one that another site makes it send.
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    if browser and scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):  # garbage is no credential
            return None
    return None


AgentsRead = Annotated[Credential, Depends(allowed("agents:read"))]
AgentsWrite = Annotated[Credential, Depends(allowed("agents:write"))]
BackupsWrite = Annotated[Credential, Depends(allowed("backups:write"))]
DocsRead = Annotated[Credential, Depends(allowed("docs:read"))]
HealthRead = Annotated[Credential, Depends(allowed("health:read"))]
LogsRead = Annotated[Credential, Depends(allowed("logs:read"))]
MetricsRead = Annotated[Credential, Depends(allowed("metrics:read"))]
RunsRead = Annotated[Credential, Depends(allowed("runs:read"))]
RunsWrite = Annotated[Credential, Depends(allowed("runs:write"))]
SecretsRead = Annotated[Credential, Depends(allowed("secrets:read"))]
SecretsWrite = Annotated[Credential, Depends(allowed("secrets:write"))]
SessionsRead = Annotated[Credential, Depends(allowed("sessions:read"))]
SessionsWrite = Annotated[Credential, Depends(allowed("sessions:write"))]
