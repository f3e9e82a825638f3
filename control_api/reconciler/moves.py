"""The only places where the state of a build, a revision or a deployment changes; each move is one of its table's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Table, select, update

from control_api.store.database import WriteSession
from control_api.store.tables import builds, deployments, revisions
from domain.deployment import (
    BUILD_TRANSITIONS,
    DEPLOYMENT_TRANSITIONS,
    REVISION_TRANSITIONS,
    BuildState,
    DeploymentState,
    RevisionState,
)
from orchestrator_runtime.contract.states import transition

State = TypeVar("State", bound=StrEnum)


def move_build(session: WriteSession, build: str, state: BuildState, **values: Any) -> None:
    """Raises `IllegalTransitionError`, as the others do."""
    _move(session, builds, builds.c.id == build, BUILD_TRANSITIONS, state, values)


def move_deployment(session: WriteSession, deployment: str, state: DeploymentState, **values: Any) -> None:
    _move(session, deployments, deployments.c.id == deployment, DEPLOYMENT_TRANSITIONS, state, values)


def move_revision(session: WriteSession, organization: str, name: str, state: RevisionState, **values: Any) -> None:
    row = (revisions.c.organization == organization) & (revisions.c.name == name)
    _move(session, revisions, row, REVISION_TRANSITIONS, state, values)


def _move(
    session: WriteSession,
    table: Table,
    row: ColumnElement[bool],
    transitions: Mapping[State, frozenset[State]],
    state: State,
    values: Mapping[str, Any],
) -> None:
    current = type(state)(session.execute(select(table.c.state).where(row)).scalar_one())
    session.execute(update(table).where(row).values(state=transition(transitions, current, state), **values))
