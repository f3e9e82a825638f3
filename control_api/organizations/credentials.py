"""What every credential may do, computed from keys, roles and grants as they are in the database now."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import ColumnElement, Table, select, true

from control_api.authorization import Credential
from control_api.organizations import repository
from control_api.store.database import ReadSession
from control_api.store.tables import agent_grants, agents, credentials, members, service_accounts
from domain.roles import EVERYWHERE, OF_INSTALLATION, ON_AGENT, UNSCOPED, Role

INVOKE = "agents:invoke"


def load(session: ReadSession, organization: str | None = None) -> list[Credential]:
    """The credentials of one organization, or of all: keys that were not revoked of principals who are still there."""
    first = repository.first(session)
    principals = {
        (row.organization, row.person): ("person", Role(row.role))
        for row in session.execute(select(members).where(_of(members, organization)))
    }
    principals |= {
        (row.organization, row.id): ("service-account", Role(row.role))
        for row in session.execute(select(service_accounts).where(_of(service_accounts, organization)))
    }
    granted, invocable = _grants(session, organization)
    found: list[Credential] = []
    keys = select(credentials).where(_of(credentials, organization), credentials.c.revoked_at.is_(None))
    for row in session.execute(keys):
        principal = (row.organization, row.principal)
        if principal not in principals:
            continue
        kind, role = principals[principal]
        scopes = None if row.scopes is None else frozenset(row.scopes)
        permissions = effective(role, scopes, installation=first is not None and row.organization == first.id)
        found.append(
            Credential(
                id=row.id,
                digest=row.digest,
                organization=row.organization,
                permissions=permissions,
                principal=row.principal,
                role=role,
                scopes=scopes,
                expires_at=row.expires_at,
                granted=granted[principal],
                invocable=frozenset(invocable[principal]) if scopes is None or INVOKE in scopes else frozenset(),
                name=f"{kind}:{row.principal}",
            )
        )
    return found


def effective(role: Role, scopes: frozenset[str] | None, *, installation: bool) -> frozenset[str]:
    """The permissions of a role, narrowed by a key's scopes. `installation`: of the first organization."""
    permissions = EVERYWHERE[role] if installation else EVERYWHERE[role] - OF_INSTALLATION
    return permissions if scopes is None else permissions & (scopes | UNSCOPED)


def _of(table: Table, organization: str | None) -> ColumnElement[bool]:
    """The rows of one organization, or of all."""
    return true() if organization is None else table.c.organization == organization


def _grants(
    session: ReadSession, organization: str | None
) -> tuple[dict[tuple[str, str], dict[str, Role]], dict[tuple[str, str], set[str]]]:
    """By (organization, principal): agent id -> role, and the names of agents that may be called."""
    granted: defaultdict[tuple[str, str], dict[str, Role]] = defaultdict(dict)
    invocable: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    query = select(
        agent_grants.c.organization, agent_grants.c.principal, agent_grants.c.role, agents.c.id, agents.c.name
    ).join(agents, agents.c.id == agent_grants.c.agent)
    for row in session.execute(query.where(_of(agent_grants, organization), agents.c.deleted_at.is_(None))):
        principal = (row.organization, row.principal)
        granted[principal][row.id] = Role(row.role)
        if INVOKE in ON_AGENT[Role(row.role)]:
            invocable[principal].add(row.name)
    return granted, invocable
