"""What can be asked of the journal, apart from admission: each operation is a value that executes itself in a batch.

Executed in the writer thread (`service`). An operation that finds something wrong raises before it has changed
anything; the ledger knows which runs it changed, so that whoever waits for them can be told after the commit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, cast

from sqlalchemy import Double, case, literal, select, update

from control_api.journal import lifecycle
from control_api.journal.ledger import IdentityKey, Ledger, RunKey
from control_api.journal.policies import Policies
from control_api.journal.reading import run_unknown
from control_api.journal.records import Run
from control_api.journal.tokens import Identity
from control_api.store.tables import runs
from orchestrator_runtime.contract.errors import BadInput, Conflict, Problem
from orchestrator_runtime.contract.journal import FENCED, Ending, Event
from orchestrator_runtime.contract.states import RunState, WaitReason
from orchestrator_runtime.contract.wire import Message


@dataclass(frozen=True, slots=True)
class Later:
    """The outcome of an operation that cannot be answered before this run has changed."""

    run: RunKey


@dataclass(frozen=True, slots=True)
class Stored(Message):
    """A reply whose body is a payload that is stored apart: whoever sends it reads it first (`Journal.fetch`)."""

    organization: str = ""
    run: str = ""
    partition: str = ""
    seq: int = 0


Outcome: TypeAlias = Message | Later | None
LATEST = 253402300800.0  # seconds since the epoch: the end of the year 9999
INSTANCE_KINDS = ("step.", "output", "log")  # what events of an instance begin with


class Operation:
    """One entry of a batch."""

    __slots__ = ()
    is_repeated: ClassVar[bool] = False  # once, where the database may have committed it and could not say so

    def runs(self) -> list[RunKey]:
        """Runs that it will look for, so that a batch reads them at once."""
        return []

    def identities(self) -> list[IdentityKey]:
        return []

    def keep_waiting(self) -> None:
        """It was committed that this cannot be answered yet: let go of what is recorded now."""

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        raise NotImplementedError


@dataclass(slots=True)
class OfRun(Operation):
    """An operation on one run."""

    organization: str
    run: str

    def runs(self) -> list[RunKey]:
        return [(self.organization, self.run)]

    def found(self, ledger: Ledger) -> Run:
        """Raises `NotFound` (`run_unknown`)."""
        run = ledger.find(self.organization, self.run)
        if run is None:
            raise run_unknown(self.run)
        return run


@dataclass(slots=True)
class Fenced(OfRun):
    """An operation of the attempt that has the lease."""

    identity: Identity
    epoch: int

    def held(self, ledger: Ledger) -> Run:
        """Raises `Conflict` (`fenced`) if another attempt has the run, or it has ended."""
        run = self.found(ledger)
        if not run.running or run.epoch != self.epoch or run.instance != self.identity.instance:
            raise Conflict(
                f"Attempt {self.epoch} does not have run {self.run} any more", code=FENCED, hint="Stop working on it."
            )
        return run


@dataclass(slots=True)
class Append(Fenced):
    """Record events. Reply: seq."""

    events: list[Event]
    blobs: list[bytes]
    batch: int = 0

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.held(ledger)
        if self.batch and self.batch <= run.batch:
            return Message({"seq": run.event_count})
        run.batch = max(self.batch, run.batch)
        for event in self.events:
            part, call = event.get("part"), event.get("call")
            ledger.record(
                run,
                event["kind"],
                at=event["at"],
                step=event.get("step"),
                parent=event.get("parent"),
                name=event.get("name"),
                step_kind=event.get("step_kind"),
                call=call,
                data=event.get("data"),
                seconds=event.get("seconds"),
                content=None if part is None else self.blobs[part],
            )
            if call is not None and event["kind"] == "step.succeeded":
                run.recorded_count += 1
        return Message({"seq": run.event_count})


def checked_events(events: Any, blobs: int) -> list[Event]:
    """Events as an instance sent them. Raises `BadInput` (`event_invalid`)."""
    if not isinstance(events, list):
        raise BadInput("events is not a list", code="event_invalid")
    for event in events:
        known = isinstance(event, dict) and isinstance(event.get("kind"), str)
        if not known or not event["kind"].startswith(INSTANCE_KINDS) or not _is_moment(event.get("at")):
            raise BadInput("An event has no kind that an instance may write, or no time", code="event_invalid")
        texts = (event.get(name) for name in ("kind", "step", "parent", "name", "step_kind"))
        part = event.get("part")
        well_typed = (
            all(text is None or (isinstance(text, str) and "\0" not in text) for text in texts)
            and all(isinstance(event.get(name, {}), dict | None) for name in ("data", "call"))
            and (part is None or (isinstance(part, int) and 0 <= part < blobs))
            and isinstance(event.get("seconds"), float | int | None)
        )
        if not well_typed:
            raise BadInput(f"An event {event['kind']} has a member of the wrong type", code="event_invalid")
    return cast("list[Event]", events)


def _is_moment(at: Any) -> bool:
    """Whether these seconds since the epoch are a time that a datetime can hold."""
    return isinstance(at, int | float) and 0 <= at < LATEST


@dataclass(slots=True)
class End(Fenced):
    """An attempt has ended. Reply: state, `waiting` if there will be another attempt."""

    ending: Ending
    body: bytes

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        if run.epoch == self.epoch and not run.running and run.cancel_requested_at is None:
            return Message({"state": run.state})  # it asks again, because the reply was lost
        run = self.held(ledger)
        if self.ending["state"] == "failed":
            policy = policies.of(ledger.session, run.organization, run.revision)
            retryable = self.ending.get("retryable", True)
            lifecycle.fail(ledger, run, self.ending, policy=policy, retryable=retryable, content=self.body)
        else:
            lifecycle.finish(ledger, run, self.ending, content=self.body)
        return Message({"state": run.state})


@dataclass(slots=True)
class Wait(Fenced):
    """The attempt leaves its instance; the run goes on at `until`."""

    reason: WaitReason
    until: float

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.held(ledger)
        lifecycle.wait(ledger, run, self.reason, until=self.until, attempt=run.attempt)
        return Message()


@dataclass(slots=True)
class Expire(OfRun):
    """Look at an attempt whose lease or grace is over; one that was renewed meanwhile is left alone.

    Reply, if its time is over: organization, revision, instance, grace (seconds). The instance still works on it.
    """

    epoch: int

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        if not run.running or run.epoch != self.epoch or run.lease_expires_at is None or run.deadline_at is None:
            return None
        policy = policies.of(ledger.session, run.organization, run.revision)
        stuck = {"organization": run.organization, "revision": run.revision, "instance": run.instance}
        if run.cancel_requested_at is not None and ledger.now >= run.cancel_requested_at + policy.grace:
            lifecycle.cancel(ledger, run)
        elif ledger.now >= run.deadline_at:
            lifecycle.overdue(ledger, run, policy=policy)
        elif ledger.now >= run.lease_expires_at:
            lifecycle.lose(ledger, run, why="its lease was not renewed")
        else:
            return None
        return Message({**stuck, "grace": policy.grace})


@dataclass(slots=True)
class LoseInstances(Operation):
    """Instances have gone: everything they had is lost. `alive` turns the meaning round."""

    instances: frozenset[str]
    why: str
    alive: bool = False

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        ledger.flush()
        query = select(runs.c.organization, runs.c.id, runs.c.instance).where(runs.c.state == RunState.RUNNING)
        if not self.alive:
            query = query.where(runs.c.instance.in_(list(self.instances)))
        found = [(row[0], row[1]) for row in ledger.session.execute(query) if (row[2] in self.instances) != self.alive]
        ledger.load(found)
        for key in found:
            run = ledger.find(*key)
            if run is not None and run.running:
                lifecycle.lose(ledger, run, why=self.why)
        return None


@dataclass(slots=True)
class Renew(Operation):
    """These instances live: what they work on keeps its lease, up to the attempt's deadline."""

    instances: frozenset[str]

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        ledger.flush()
        until = ledger.now + lifecycle.LEASE
        limited = case((runs.c.deadline_at < literal(until, Double), runs.c.deadline_at), else_=literal(until, Double))
        ledger.session.execute(
            update(runs)
            .where(runs.c.state == RunState.RUNNING, runs.c.instance.in_(list(self.instances)))
            .values(lease_expires_at=limited)
        )
        for run in ledger.changed_elsewhere():
            if run.running and run.instance in self.instances and run.deadline_at is not None:
                run.lease_expires_at = min(until, run.deadline_at)
        return None


@dataclass(slots=True)
class Cancel(OfRun):
    """A person wants the run to stop. Reply: state, and while an instance has it: instance, grace (seconds)."""

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        grace = policies.of(ledger.session, run.organization, run.revision).grace
        lifecycle.request_cancel(ledger, run)
        return Message({"state": run.state, **({"instance": run.instance, "grace": grace} if run.running else {})})


@dataclass(slots=True)
class Again(OfRun):
    """A person wants a failed run to be tried again. Reply: state."""

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        if run.state != RunState.FAILED:
            raise Conflict(
                f"Run {self.run} is {run.state}",
                code="run_not_failed",
                hint="Only a failed run can be tried again; call the agent once more for a new run.",
            )
        lifecycle.again(ledger, run)
        return Message({"state": run.state})


@dataclass(slots=True)
class NotSent(OfRun):
    """The dispatcher could not send a run: it waits until then, or, without `until`, fails with the problem."""

    epoch: int
    problem: Problem
    until: float | None

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        if run.epoch != self.epoch or run.wait_reason not in (WaitReason.DISPATCH, WaitReason.RETRY):
            return None  # it was admitted after all
        if self.until is None:
            lifecycle.finish(ledger, run, lifecycle.failed(self.problem))
        else:
            document = self.problem.document()
            lifecycle.wait(ledger, run, WaitReason.DISPATCH, until=self.until, problem=document)
        return None


@dataclass(slots=True)
class WakeSession(OfRun):
    """Let a session go on whose first run (`run`) waits although nobody is before it."""

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.found(ledger)
        others = ledger.open_in_session(run)
        if run.wait_reason == WaitReason.SESSION and all(other.wait_reason == WaitReason.SESSION for other in others):
            lifecycle.wait(ledger, run, WaitReason.DISPATCH, until=ledger.now)
        return None


def ending_of(run: Run) -> dict[str, Any]:
    """How a run that has ended did so, as the journal's protocol says it."""
    assert run.ended
    ending: dict[str, Any] = {"state": run.state, "status": run.status, **json.loads(run.answer or "{}")}
    for name, text in (("problem", run.problem), ("usage", run.usage)):
        if text is not None:
            ending[name] = json.loads(text)
    return ending
