"""State machines as triggers: the database refuses what `contract.states.transition` refuses, whoever asks.

Migrations call `guard` with the moves spelled out, because a migration must not change when a table does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from control_api.store.tables import builds, deployments, revisions, runs
from domain.deployment import BUILD_TRANSITIONS, DEPLOYMENT_TRANSITIONS, REVISION_TRANSITIONS
from orchestrator_runtime.contract.states import RUN_TRANSITIONS

State = TypeVar("State", bound=StrEnum)
Moves = list[tuple[str, str]]


def moves(table: Mapping[State, frozenset[State]]) -> Moves:
    """Every allowed (from, to), sorted."""
    return sorted((str(state), str(following)) for state, targets in table.items() for following in targets)


GUARDED: dict[str, Moves] = {
    runs.name: moves(RUN_TRANSITIONS),
    builds.name: moves(BUILD_TRANSITIONS),
    deployments.name: moves(DEPLOYMENT_TRANSITIONS),
    revisions.name: moves(REVISION_TRANSITIONS),
}


def guard(table: str, allowed: Moves, *, dialect: str) -> list[str]:
    """The statements that make `table` refuse every change of `state` that is not in `allowed`."""
    listed = ", ".join(f"'{state}>{following}'" for state, following in allowed)
    broken = f"OLD.state <> NEW.state AND OLD.state || '>' || NEW.state NOT IN ({listed})"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_transition BEFORE UPDATE OF state ON {table} WHEN {broken} "
            f"BEGIN SELECT RAISE(ABORT, 'illegal transition of {table}'); END"
        ]
    return [
        f"CREATE FUNCTION {table}_transition() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE EXCEPTION 'illegal transition of {table}' USING ERRCODE = 'check_violation'; END $$",
        f"CREATE TRIGGER {table}_transition BEFORE UPDATE OF state ON {table} "
        f"FOR EACH ROW WHEN ({broken}) EXECUTE FUNCTION {table}_transition()",
    ]
