"""Who may do what: one table from which everything about roles is derived. Pure data.

Roles are a chain, so a permission needs one entry: the least role that has it. A grant gives somebody a role on one
agent; what that means is the second column. The owner of an agent has `OWNER_OF_AGENT` on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class Role(StrEnum):
    """From the least to the most; each may do whatever those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DEVELOPER = "developer"
    ADMIN = "admin"
    OWNER = "owner"


class Least(NamedTuple):
    """The least role that has a permission, in the organization and, by a grant, on one agent (None: on none)."""

    everywhere: Role
    on_agent: Role | None
    meaning: str


VIEWER, OPERATOR, DEVELOPER, ADMIN, OWNER = Role

TABLE: Final[Mapping[str, Least]] = {
    "agents:read": Least(VIEWER, VIEWER, "see agents, versions, revisions, builds and deployments"),
    "docs:read": Least(VIEWER, None, "read the API's documentation"),
    "health:read": Least(VIEWER, None, "see whether every part works"),
    "keys:read": Least(VIEWER, None, "list one's own API keys"),
    "keys:write": Least(VIEWER, None, "make, rotate and revoke one's own API keys"),
    "logs:read": Least(VIEWER, VIEWER, "read logs"),
    "members:read": Least(VIEWER, None, "see who belongs to the organization"),
    "organization:read": Least(VIEWER, None, "see the organization, and one's others"),
    "runs:read": Least(VIEWER, VIEWER, "see runs with their inputs, steps and outputs"),
    "secrets:read": Least(VIEWER, None, "list the names of secrets"),
    "self:read": Least(VIEWER, None, "see who one is and what one may do; no scope takes it away"),
    "service-accounts:read": Least(VIEWER, None, "see service accounts"),
    "sessions:read": Least(VIEWER, VIEWER, "see sessions"),
    "agents:invoke": Least(OPERATOR, OPERATOR, "call agents"),
    "runs:write": Least(OPERATOR, OPERATOR, "cancel runs, and give failed ones another attempt"),
    "sessions:write": Least(OPERATOR, OPERATOR, "delete sessions"),
    "traffic:write": Least(OPERATOR, OPERATOR, "split calls between revisions, and roll back"),
    "agents:create": Least(DEVELOPER, None, "make an agent, and own it"),
    "secrets:write": Least(DEVELOPER, None, "set and remove secrets"),
    "agents:write": Least(ADMIN, DEVELOPER, "deploy and delete an agent"),
    "agents:share": Least(ADMIN, ADMIN, "grant access to an agent, and hand it over"),
    "invitations:read": Least(ADMIN, None, "see invitations"),
    "invitations:write": Least(ADMIN, None, "invite people, and revoke invitations"),
    "keys:manage": Least(ADMIN, None, "see and revoke every API key, and make those of service accounts"),
    "members:write": Least(ADMIN, None, "change the roles of members, and remove them"),
    "service-accounts:write": Least(ADMIN, None, "make and remove service accounts"),
    "encryption:read": Least(ADMIN, None, "see which keys encrypt what is stored"),
    "encryption:write": Least(OWNER, None, "replace the key that encrypts what the organization stores"),
    "organization:write": Least(OWNER, None, "rename the organization"),
    "backups:write": Least(OWNER, None, "write a backup of the whole database; in the first organization only"),
    "master:write": Least(OWNER, None, "replace the master key of all organizations; in the first organization only"),
    "metrics:read": Least(OWNER, None, "read the metrics of all organizations; in the first organization only"),
}
PERMISSIONS: Final = frozenset(TABLE)
PUBLIC: Final = frozenset({"invitations:accept"})
"""What needs no credential: an invitation is one itself."""
UNSCOPED: Final = frozenset({"self:read"})

OF_INSTALLATION: Final = frozenset({"backups:write", "master:write", "metrics:read"})
"""They concern all organizations, so only the first one, which runs the installation, has them."""

OWNER_OF_AGENT: Final = Role.ADMIN
MAKES_AGENTS: Final = "agents:create"
"""An agent's owner keeps the rights on it while his role has this permission."""


_ORDER: Final = tuple(Role)


def _up_to(role: Role, least: Role | None) -> bool:
    return least is not None and _ORDER.index(role) >= _ORDER.index(least)


EVERYWHERE: Final[Mapping[Role, frozenset[str]]] = {
    role: frozenset(name for name, least in TABLE.items() if _up_to(role, least.everywhere)) for role in Role
}
"""Role -> what it may do in the organization."""
ON_AGENT: Final[Mapping[Role, frozenset[str]]] = {
    role: frozenset(name for name, least in TABLE.items() if _up_to(role, least.on_agent)) for role in Role
}
"""Role -> what a grant of it allows on one agent."""
