"""State machines of runs, attempts and steps: one transition table each, and one way to move.

The database repeats each table as a constraint; `docs/states.md` is rendered from them by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class RunState(StrEnum):
    """A run is `pending` until an instance is admitted, and `waiting` whenever no instance works on it but one will."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """`lost`: the executor crashed, was evicted, or let its lease expire."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class StepState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WaitReason(StrEnum):
    """Why a run that is not terminal has no lease: exactly one of these, always."""

    DISPATCH = "dispatch"  # accepted, and the dispatcher will send it to an instance
    RETRY = "retry"  # the previous attempt ended; the next one starts at a known time
    SESSION = "session"  # an earlier run of the same session is not finished


class StepKind(StrEnum):
    NODE = "node"
    AGENT = "agent"
    MODEL = "model"
    TOOL = "tool"
    FUNCTION = "function"  # the runtime's own step()


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.RUNNING, RunState.WAITING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.WAITING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}),
    RunState.WAITING: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset({RunState.WAITING}),  # only when a person asks for another attempt
    RunState.CANCELLED: frozenset(),
}
ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.RUNNING: frozenset(
        {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.CANCELLED, AttemptState.LOST}
    ),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.CANCELLED: frozenset(),
    AttemptState.LOST: frozenset(),
}
STEP_TRANSITIONS: Mapping[StepState, frozenset[StepState]] = {
    StepState.RUNNING: frozenset({StepState.SUCCEEDED, StepState.FAILED}),
    StepState.SUCCEEDED: frozenset(),
    StepState.FAILED: frozenset(),
}

TERMINAL_RUN_STATES = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})

State = TypeVar("State", bound=StrEnum)


class IllegalTransitionError(ValueError):
    """A state machine was asked for a move that its table does not have: a defect of ours, never bad input."""


def transition(table: Mapping[State, frozenset[State]], current: State, following: State) -> State:
    """Return `following` if the table allows the move from `current`, else raise `IllegalTransitionError`."""
    if following not in table[current]:
        raise IllegalTransitionError(f"{type(current).__name__}: {current} -> {following}")
    return following
