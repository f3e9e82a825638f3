"""Admission: the operations that make a run or grant the next attempt of one.

Executed in the writer thread, in one batch with others (`service`). An operation that finds something wrong raises
before it has changed anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from control_api.journal import lifecycle
from control_api.journal.ledger import IdentityKey, Ledger, RunKey, dumps, headers_context
from control_api.journal.operations import Later, Operation, Outcome, Stored, ending_of
from control_api.journal.policies import Policies
from control_api.journal.reading import run_unknown
from control_api.journal.records import Run
from control_api.journal.tokens import Identity
from control_api.store.tables import sessions
from control_api.store.upsert import upsert
from orchestrator_runtime.contract.errors import Conflict, Unprocessable
from orchestrator_runtime.contract.headers import kept
from orchestrator_runtime.contract.journal import Admission
from orchestrator_runtime.contract.states import RunState, WaitReason
from orchestrator_runtime.contract.wire import Message

NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Arrival(Operation):
    """What `Admit` and `Submit` have in common: a call that becomes a run, or is one already."""

    organization: str
    agent: str
    revision: str
    admission: Admission
    body: bytes
    background: int = 0
    is_repeated: ClassVar[bool] = True  # or a lease might be granted of which nobody knows

    def runs(self) -> list[RunKey]:
        return [(self.organization, self.admission["run"])]

    def identities(self) -> list[IdentityKey]:
        key = self.admission.get("key")
        return [(self.organization, "key", self.agent, key)] if key else []

    def known(self, ledger: Ledger) -> Run | None:
        """The run that this call is, if there is one already.

        Raises `Unprocessable` (`idempotency_key_reused`) if its key was used with another body.
        """
        run = ledger.find(self.organization, self.admission["run"])
        if run is None:
            for key in self.identities():
                found = ledger.identity(key)
                run = ledger.find(self.organization, found[0]) if found else None
                if run is not None and found is not None:
                    _same_body(found[1], self.admission.get("fingerprint"))
        if run is not None and run.agent != self.agent:
            raise run_unknown(run.id)
        return run

    def new(self, ledger: Ledger) -> Run:
        """A run that waits to be sent; nothing of it is recorded yet."""
        admission = self.admission
        sealing = ledger.keys.of(ledger.session, self.organization)  # raises before anything is changed
        headers = kept(admission.get("headers", {}).items())  # whoever sent them
        run = Run(
            organization=self.organization,
            id=admission["run"],
            agent=self.agent,
            revision=self.revision,
            state=RunState.PENDING,
            wait_reason=WaitReason.DISPATCH,
            wait_until=ledger.now,
            epoch=0,
            attempt=0,
            failed_count=0,
            lost_count=0,
            instance=None,
            lease_expires_at=None,
            deadline_at=None,
            timeout=float(admission["deadline"]),
            session=admission.get("session"),
            key=admission.get("key"),
            trigger=admission["trigger"],
            background=self.background,
            request=dumps(admission["request"]),
            headers=sealing.seal(dumps(headers).encode(), headers_context(admission["run"])) if headers else None,
            caller=admission.get("caller"),
            correlation=admission["correlation"],
            traceparent=admission.get("traceparent"),
            cancel_requested_at=None,
            created_at=ledger.now,
            started_at=None,
            ended_at=None,
            status=None,
            answer=None,
            problem=None,
            usage=None,
            event_count=0,
            recorded_count=0,
            batch=0,
            partition=ledger.partition,
        )
        if run.session is not None:
            if ledger.open_in_session(run):
                run.wait_reason, run.wait_until = WaitReason.SESSION, None
            _count_in_session(ledger, run)
        ledger.add(run)
        for key in self.identities():
            ledger.identify(key, run.id, admission.get("fingerprint"))
        return run

    def accept(self, ledger: Ledger, run: Run) -> None:
        """Record the run and its input; it waits for its session or for an instance."""
        data = {"reason": run.wait_reason, "until": run.wait_until}
        ledger.record(run, "run.accepted", data=data, content=self.body)


@dataclass(slots=True)
class Submit(Arrival):
    """Accept a run that the server will send to an instance. Reply: run, state."""

    background: int = 1

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.known(ledger)
        if run is None:
            run = self.new(ledger)
            self.accept(ledger, run)
        return Message({"run": run.id, "state": run.state})


@dataclass(slots=True)
class Admit(Arrival):
    """An instance asks to work on a run. Reply: Admitted; left unanswered while another one works on it."""

    identity: Identity = field(kw_only=True)
    dispatched: bool = False

    def execute(self, ledger: Ledger, policies: Policies) -> Outcome:
        run = self.known(ledger)
        if run is None:
            return self._first(ledger)
        if run.ended:
            return finished(ledger, run)
        own = run.id == self.admission["run"]
        if run.running:
            if own and run.instance == self.identity.instance:
                # it asks again, because the reply was lost
                return self._granted(run, *self._asked(ledger, run))
            return self._elsewhere(run, "already_running", "An instance works on this run")
        if not own or run.wait_reason == WaitReason.SESSION:
            return self._elsewhere(run, "not_its_turn", "An earlier run of the session has not ended")
        recorded = self._asked(ledger, run)
        lifecycle.start(ledger, run, instance=self.identity.instance, timeout=float(self.admission["deadline"]))
        return self._granted(run, *recorded)

    def _first(self, ledger: Ledger) -> Outcome:
        if self.dispatched:
            raise run_unknown(self.admission["run"])
        run = self.new(ledger)
        if run.wait_reason == WaitReason.SESSION:
            self.accept(ledger, run)
            return Later((run.organization, run.id))
        lifecycle.start(ledger, run, instance=self.identity.instance, timeout=run.timeout, content=self.body)
        return self._granted(run)

    def _elsewhere(self, run: Run, code: str, detail: str) -> Outcome:
        if self.dispatched:
            raise Conflict(f"{detail}: {run.id}", code=code)
        return Later((run.organization, run.id))

    def keep_waiting(self) -> None:
        """The run is recorded, so this is never looked at again."""
        self.body = b""

    def _asked(self, ledger: Ledger, run: Run) -> tuple[Mapping[str, Any], bytes | None]:
        """What an instance gets that a run is sent to: request and headers, and the input if that is small."""
        if not self.dispatched:
            return NOTHING, b""
        asked: dict[str, Any] = {"request": json.loads(run.request)}
        if run.headers is not None:
            key = ledger.keys.of(ledger.session, run.organization)
            asked["headers"] = json.loads(key.open(run.headers, headers_context(run.id)))
        return asked, ledger.inline(run, 1)

    def _granted(self, run: Run, asked: Mapping[str, Any] = NOTHING, given: bytes | None = b"") -> Message:
        fields: dict[str, Any] = {"run": run.id, "outcome": "started", "epoch": run.epoch, "attempt": run.attempt}
        if run.recorded_count:
            fields["recorded"] = run.recorded_count
        if run.session is not None:
            fields["session"] = run.session
        return _with_content({**fields, **asked}, run, 1, given)


def finished(ledger: Ledger, run: Run) -> Message:
    """The reply that repeats the answer of a run that has ended."""
    fields = {"run": run.id, "outcome": "finished", "epoch": run.epoch, "attempt": run.attempt}
    content = ledger.inline(run, run.event_count)
    return _with_content({**fields, "ending": ending_of(run)}, run, run.event_count, content)


def _with_content(fields: dict[str, Any], run: Run, seq: int, content: bytes | None) -> Message:
    """A reply with the payload of an event; a large one is not read in the one writer's thread."""
    if content is not None:
        return Message(fields, content)
    return Stored(fields, organization=run.organization, run=run.id, partition=run.partition, seq=seq)


def _same_body(recorded: str | None, given: str | None) -> None:
    if recorded is not None and given is not None and recorded != given:
        raise Unprocessable(
            "This Idempotency-Key was used for another request",
            code="idempotency_key_reused",
            hint="Use a new key for each request, and the same one only to repeat that request unchanged.",
        )


def _count_in_session(ledger: Ledger, run: Run) -> None:
    key = {"organization": run.organization, "agent": run.agent, "id": run.session}
    moment = datetime.fromtimestamp(ledger.now, UTC)
    upsert(
        ledger.session,
        sessions,
        {**key, "runs": 1, "created_at": moment, "updated_at": moment},
        {"runs": sessions.c.runs + 1, "updated_at": moment},
    )
