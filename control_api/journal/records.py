"""A run and its events as rows, in the order of their columns.

A `Run` is mutable and its times are seconds since the epoch, unlike values elsewhere: it is one row of a unit of work
(`ledger`), read and written past SQLAlchemy for every call of every agent. Nothing outside this package sees one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from control_api.store.bulk import BulkTable
from control_api.store.tables import identities, run_events, runs
from orchestrator_runtime.contract.states import RunState


@dataclass(slots=True)
class Run:
    organization: str
    id: str
    agent: str
    revision: str
    state: str
    wait_reason: str | None
    wait_until: float | None
    epoch: int
    attempt: int
    failed_count: int
    lost_count: int
    instance: str | None
    lease_expires_at: float | None
    deadline_at: float | None
    timeout: float
    session: str | None
    key: str | None
    trigger: str
    background: int
    request: str  # JSON
    headers: bytes | None  # sealed
    caller: str | None
    correlation: str
    traceparent: str | None
    cancel_requested_at: float | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    status: int | None
    answer: str | None  # JSON
    problem: str | None  # JSON
    usage: str | None  # JSON
    event_count: int
    recorded_count: int
    batch: int
    partition: str

    @property
    def running(self) -> bool:
        return self.state == RunState.RUNNING

    @property
    def ended(self) -> bool:
        return self.ended_at is not None


COLUMNS = tuple(field.name for field in fields(Run))
assert tuple(column.name for column in runs.columns) == COLUMNS, "Run and the table `runs` differ"

FIXED = frozenset(
    "organization id agent session key trigger request headers caller correlation traceparent created_at "
    "partition".split()
)
CHANGING = tuple(name for name in COLUMNS if name not in FIXED)

RUNS = BulkTable(runs)
IDENTITIES = BulkTable(identities)

whole_row: attrgetter[tuple[Any, ...]] = attrgetter(*COLUMNS)
changed_row: attrgetter[tuple[Any, ...]] = attrgetter(*CHANGING, *RUNS.key)

_events: dict[str, BulkTable] = {}


def events_table(partition: str) -> BulkTable:
    """The events of one week; a row holds the columns of `run_events` in their order."""
    table = _events.get(partition)
    if table is None:
        table = _events[partition] = BulkTable(run_events, name=f"run_events_{partition}")
    return table
