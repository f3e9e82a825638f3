"""Grants and owners of agents in the database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, update

from control_api.grants.schemas import GrantView
from control_api.organizations import principals
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agent_grants, agents
from control_api.store.upsert import upsert


def page(session: ReadSession, organization: str, agent: str, *, after: str | None, limit: int) -> list[GrantView]:
    """By the id of whom they are for."""
    query = select(agent_grants).where(agent_grants.c.organization == organization, agent_grants.c.agent == agent)
    if after is not None:
        query = query.where(agent_grants.c.principal > after)
    rows = session.execute(query.order_by(agent_grants.c.principal).limit(limit)).all()
    names = principals.views(session, organization, [one for row in rows for one in (row.principal, row.created_by)])
    return [
        GrantView(
            principal=names[row.principal],
            role=row.role,
            created_by=names[row.created_by],
            created_at=row.created_at,
        )
        for row in rows
    ]


def put(
    session: WriteSession, organization: str, agent: str, principal: str, role: str, *, created_by: str, now: datetime
) -> None:
    changes = {"role": role, "created_by": created_by, "created_at": now}
    key = {"organization": organization, "agent": agent, "principal": principal}
    upsert(session, agent_grants, {**key, **changes}, changes)


def remove(session: WriteSession, organization: str, agent: str, principal: str | None) -> bool:
    """One grant, or all of an agent. Whether there was one."""
    query = delete(agent_grants).where(agent_grants.c.organization == organization, agent_grants.c.agent == agent)
    if principal is not None:
        query = query.where(agent_grants.c.principal == principal)
    return bool(session.execute(query.returning(agent_grants.c.principal)).first())


def set_owner(session: WriteSession, agent: str, owner: str, *, now: datetime) -> None:
    session.execute(update(agents).where(agents.c.id == agent).values(owner=owner, updated_at=now))
