"""The rows of agents that other features start from: found by name, made by the first version of that name."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select, update

from control_api.authorization import Ownership
from control_api.store.database import ReadSession, WriteSession
from control_api.store.tables import agents
from orchestrator_runtime.contract.errors import NotFound
from orchestrator_runtime.contract.ids import uuid7


def find(session: ReadSession, organization: str, name: str) -> Ownership | None:
    """The agent that has this name now; a deleted one has none."""
    query = select(agents.c.id, agents.c.owner).where(
        agents.c.organization == organization, agents.c.name == name, agents.c.deleted_at.is_(None)
    )
    row = session.execute(query).first()
    return Ownership(row.id, row.owner) if row else None


def ownership(session: ReadSession, organization: str, name: str) -> Ownership:
    """The agent that has this name now. Raises `NotFound` (`agent_unknown`)."""
    found = find(session, organization, name)
    if found is None:
        raise unknown(name)
    return found


def require(session: ReadSession, organization: str, name: str) -> str:
    """The id of the agent that has this name now. Raises as `ownership` does."""
    return ownership(session, organization, name).id


def create(session: WriteSession, organization: str, name: str, *, owner: str, now: datetime) -> str:
    """The id of a new agent."""
    made = uuid7()
    values = {"id": made, "organization": organization, "name": name, "owner": owner}
    session.execute(insert(agents).values(**values, created_at=now, updated_at=now))
    return made


def touch(session: WriteSession, agent: str, *, now: datetime) -> None:
    """Note that what the agent serves has changed."""
    session.execute(update(agents).where(agents.c.id == agent).values(updated_at=now))


def unknown(name: str) -> NotFound:
    return NotFound(f"There is no agent {name}", code="agent_unknown", hint="`orchestrator ls` lists them.")
