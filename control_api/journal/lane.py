"""Executes batches of operations in the writer thread: one transaction, one ledger, a handful of statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from control_api.journal.ledger import Ended, Ledger, RunKey
from control_api.journal.operations import Operation, Outcome
from control_api.journal.policies import Policies
from control_api.journal.records import Run
from control_api.store.database import WriteSession
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem


class Executed(NamedTuple):
    """What became of one operation, the runs that it changed, as they are after the whole batch, and what it ended."""

    outcome: Outcome | Problem
    touched: Sequence[Run]
    ended: Sequence[Ended]


class JournalLane:
    """The lane (`store.database.Lane`) of all journal operations."""

    def __init__(self, keys: OrganizationKeys, clock: Clock, *, is_only_writer: bool) -> None:
        """`is_only_writer`: nobody else changes runs, so those that are worked on need not be read again."""
        self._keys = keys
        self._clock = clock
        self._is_only_writer = is_only_writer
        self.policies = Policies()
        self._weeks: frozenset[str] = frozenset()
        self._running: dict[RunKey, Run] = {}

    def execute(self, session: WriteSession, items: Sequence[Operation]) -> list[Executed]:
        """An operation that raises `Problem` fails alone; anything else it raises undoes the batch."""
        now = self._clock.now().timestamp()
        ledger = Ledger(session, keys=self._keys, now=now, weeks=self._weeks, running=self._running)
        ledger.load([key for operation in items for key in operation.runs()])
        ledger.load_identities([key for operation in items for key in operation.identities()])
        executed = [self._one(ledger, operation) for operation in items]
        ledger.flush()
        return executed

    def committed(self, run: Run) -> None:
        """Note that a run is in the database like this, and the tables of its week are there to stay.

        Comes between two batches.
        """
        if run.partition not in self._weeks:
            self._weeks |= {run.partition}
        if run.running and self._is_only_writer:
            self._running[run.organization, run.id] = run

    def _one(self, ledger: Ledger, operation: Operation) -> Executed:
        outcome: Outcome | Problem
        try:
            outcome = operation.execute(ledger, self.policies)
        except Problem as problem:
            outcome = problem
        return Executed(outcome, ledger.take_touched(), ledger.take_ended())
