"""Who asks, and whether they may: the one place where the API decides it.

Every endpoint declares one permission by depending on `allowed("…")`; `tests/unit/api/test_authorization.py` walks all
routes and fails for one that does not. What a role may do is in `domain/roles.py`. A token is 256 random bits, so its
plain SHA-256 is enough to store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, Protocol

from fastapi import Depends, Request

from domain.clock import Clock, SystemClock
from domain.roles import EVERYWHERE, MAKES_AGENTS, OF_INSTALLATION, ON_AGENT, OWNER_OF_AGENT, PERMISSIONS, PUBLIC, Role
from orchestrator_runtime.contract.errors import Forbidden, Unauthenticated

TOKEN_PREFIX = "orc_"  # noqa: S105 - lets secret scanners recognise a leaked token


@dataclass(frozen=True, slots=True)
class Ownership:
    """An agent as far as rights are concerned."""

    id: str
    owner: str | None  # a principal


@dataclass(frozen=True, slots=True)
class Credential:
    """A way in: a principal in one organization, and what it may do there.

    `permissions` are those of the role, narrowed by `scopes` (None: not narrowed). `granted`: agent id -> role;
    `invocable`: names of the agents that may be called by a grant alone. `name` is what runs record as their caller.
    """

    id: str
    digest: str  # SHA-256 of the token, hex
    organization: str
    permissions: frozenset[str]
    principal: str = ""  # id of a person or a service account
    role: Role = Role.VIEWER
    scopes: frozenset[str] | None = None
    expires_at: datetime | None = None
    granted: Mapping[str, Role] = field(default_factory=dict)
    invocable: frozenset[str] = frozenset()
    name: str = ""

    def may(self, permission: str) -> bool:
        """In the whole organization."""
        return permission in self.permissions

    def may_on(self, permission: str, agent: Ownership) -> bool:
        """On this agent: as everywhere, or as its owner, or by a grant."""
        roles = [self.granted[agent.id]] if agent.id in self.granted else []
        if agent.owner == self.principal:
            roles += self._as_owner()
        return self.may(permission) or self._any(roles, permission)

    def may_somewhere(self, permission: str) -> bool:
        """Whether there may be an agent on which this is allowed."""
        return self.may(permission) or self._any([*self.granted.values(), *self._as_owner()], permission)

    def may_give(self, role: Role) -> bool:
        """Nobody gives more than they have."""
        return all(self.may(permission) for permission in EVERYWHERE[role] - OF_INSTALLATION)

    def _as_owner(self) -> list[Role]:
        """What it is to own an agent; nothing while the own role may not make any."""
        return [OWNER_OF_AGENT] if MAKES_AGENTS in EVERYWHERE[self.role] else []

    def _any(self, roles: Iterable[Role], permission: str) -> bool:
        in_scope = self.scopes is None or permission in self.scopes
        return in_scope and any(permission in ON_AGENT[role] for role in roles)


def new_token(prefix: str = TOKEN_PREFIX) -> str:
    return prefix + secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Credentials:
    """All credentials, in memory: they are few, and the server is the only one who changes them.

    Whatever changes them puts the new ones here before it answers, so every request is decided by current data.
    """

    def __init__(self, credentials: Iterable[Credential], *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._by_digest = {credential.digest: credential for credential in credentials}
        self._used: dict[str, datetime] = {}

    def all(self) -> list[Credential]:
        return list(self._by_digest.values())

    def replace(self, organization: str, credentials: Iterable[Credential]) -> None:
        """These, and no others, are the organization's."""
        others = {digest: one for digest, one in self._by_digest.items() if one.organization != organization}
        self._by_digest = others | {credential.digest: credential for credential in credentials}

    def find(self, token: str) -> Credential | None:
        """The credential that `token` opens, unless it has expired."""
        found = self._by_digest.get(token_digest(token))
        if found is None or not self.hold(found):
            return None
        self._used[found.digest] = self._clock.now()
        return found

    def hold(self, credential: Credential) -> bool:
        """Whether it still opens something."""
        found = self._by_digest.get(credential.digest)
        return found is not None and (found.expires_at is None or found.expires_at > self._clock.now())

    def used(self, digests: Iterable[str]) -> None:
        """Somebody else (the gateway) has let these in just now."""
        self._used.update(dict.fromkeys(digests, self._clock.now()))

    def take_used(self) -> dict[str, datetime]:
        """When which digests were used since the last time that this was asked."""
        used, self._used = self._used, {}
        return used


class Access(Protocol):
    """Finds the agent that a path is about (`agents.access.AgentAccess`)."""

    async def of_agent(self, organization: str, name: str) -> Ownership:
        """Raises `NotFound` (`agent_unknown`)."""
        ...

    async def of_run(self, organization: str, run: str) -> Ownership | None:
        """None if its agent was deleted. Raises `NotFound` (`run_unknown`)."""
        ...


Subject = Literal["agent", "run", "some agent"]
"""What an operation is about: the agent {name} or the run {run} of its path, or an agent that its service finds out
and decides about itself (`Credential.may_on`)."""


class Allowed:
    """The dependency behind `allowed`: the caller's credential, if it has the permission.

    Raises `Unauthenticated` (`unauthenticated`) or `Forbidden` (`permission_missing`).
    """

    def __init__(self, permission: str, *, on: Subject | None = None) -> None:
        assert permission in PERMISSIONS, f"{permission} is not in the list of permissions"
        self.permission = permission
        self._on = on

    async def __call__(self, request: Request) -> Credential:
        caller = authenticate(request, browser=self.permission == "docs:read")
        if caller.may(self.permission) or (
            self._on is not None and caller.may_somewhere(self.permission) and await self._may_here(request, caller)
        ):
            return caller
        raise missing(self.permission)

    async def _may_here(self, request: Request, caller: Credential) -> bool:
        if self._on == "some agent":
            return True
        access: Access = request.app.state.access
        if self._on == "agent":
            agent: Ownership | None = await access.of_agent(caller.organization, request.path_params["name"])
        else:
            agent = await access.of_run(caller.organization, request.path_params["run"])
        return agent is not None and caller.may_on(self.permission, agent)


class Public:
    """The dependency of an operation that needs no credential, and takes one: who asks, or None."""

    def __init__(self, permission: str) -> None:
        assert permission in PUBLIC, f"{permission} is not public"
        self.permission = permission

    async def __call__(self, request: Request) -> Credential | None:
        return authenticate(request) if "authorization" in request.headers else None


def allowed(permission: str, *, on: Subject | None = None) -> Allowed:
    return Allowed(permission, on=on)


def authenticate(request: Request, *, browser: bool = False) -> Credential:
    """The credential that the request carries. Raises `Unauthenticated` (`unauthenticated`)."""
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
            "Nobody has this token, or not any more",
            code="unauthenticated",
            hint="It may have expired or been revoked; the owner's is in the file owner-token of the home folder.",
            browser=browser,
        )
    return credential


def while_valid(request: Request, caller: Credential) -> Callable[[], bool]:
    """Whether the caller may go on: what a live stream asks before it sends something."""
    credentials: Credentials = request.app.state.credentials
    return lambda: credentials.hold(caller)


def missing(permission: str) -> Forbidden:
    return Forbidden(
        f"This credential lacks the permission {permission}",
        code="permission_missing",
        hint="`orchestrator whoami` says what you may do; ask an owner of the organization for more.",
        permission=permission,
    )


def require_write(caller: Credential, agent: Ownership) -> None:
    """Raises `Forbidden` (`permission_missing`) unless the caller may deploy this agent."""
    if not caller.may_on("agents:write", agent):
        raise missing("agents:write")


def require_below(caller: Credential, role: Role) -> None:
    """Raises `Forbidden` (`role_above`) unless the caller has all that the role has."""
    if not caller.may_give(role):
        raise Forbidden(
            f"The role {role} may do more than this credential",
            code="role_above",
            hint="Ask somebody who has that role; `orchestrator whoami` says what you may do.",
        )


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
AgentsWrite = Annotated[Credential, Depends(allowed("agents:write", on="agent"))]
AgentsShare = Annotated[Credential, Depends(allowed("agents:share", on="agent"))]
AnAgentWrite = Annotated[Credential, Depends(allowed("agents:write", on="some agent"))]
BackupsWrite = Annotated[Credential, Depends(allowed("backups:write"))]
DocsRead = Annotated[Credential, Depends(allowed("docs:read"))]
EncryptionRead = Annotated[Credential, Depends(allowed("encryption:read"))]
EncryptionWrite = Annotated[Credential, Depends(allowed("encryption:write"))]
HealthRead = Annotated[Credential, Depends(allowed("health:read"))]
InvitationsAccept = Annotated[Credential | None, Depends(Public("invitations:accept"))]
InvitationsRead = Annotated[Credential, Depends(allowed("invitations:read"))]
InvitationsWrite = Annotated[Credential, Depends(allowed("invitations:write"))]
KeysRead = Annotated[Credential, Depends(allowed("keys:read"))]
KeysWrite = Annotated[Credential, Depends(allowed("keys:write"))]
LogsRead = Annotated[Credential, Depends(allowed("logs:read"))]
MasterWrite = Annotated[Credential, Depends(allowed("master:write"))]
MembersRead = Annotated[Credential, Depends(allowed("members:read"))]
MembersWrite = Annotated[Credential, Depends(allowed("members:write"))]
MetricsRead = Annotated[Credential, Depends(allowed("metrics:read"))]
OrganizationRead = Annotated[Credential, Depends(allowed("organization:read"))]
OrganizationWrite = Annotated[Credential, Depends(allowed("organization:write"))]
RunsRead = Annotated[Credential, Depends(allowed("runs:read"))]
RunsWrite = Annotated[Credential, Depends(allowed("runs:write", on="run"))]
SecretsRead = Annotated[Credential, Depends(allowed("secrets:read"))]
SecretsWrite = Annotated[Credential, Depends(allowed("secrets:write"))]
SelfRead = Annotated[Credential, Depends(allowed("self:read"))]
ServiceAccountsRead = Annotated[Credential, Depends(allowed("service-accounts:read"))]
ServiceAccountsWrite = Annotated[Credential, Depends(allowed("service-accounts:write"))]
SessionsRead = Annotated[Credential, Depends(allowed("sessions:read"))]
SessionsWrite = Annotated[Credential, Depends(allowed("sessions:write", on="agent"))]
TrafficWrite = Annotated[Credential, Depends(allowed("traffic:write", on="agent"))]
