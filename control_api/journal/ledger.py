"""The unit of work of one batch of journal operations.

Operations find runs here, change them, and record events; `flush` writes all of it with a handful of statements. One
transaction sees each run as one object, so an admission and its end may be in the same batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import delete, select

from control_api.journal.records import (
    CHANGING,
    IDENTITIES,
    RUNS,
    Run,
    changed_row,
    events_table,
    whole_row,
)
from control_api.store import partitions
from control_api.store.database import WriteSession
from control_api.store.keys import OrganizationKeys
from control_api.store.partitions import events_of
from control_api.store.payloads import INLINE_BYTES, PayloadWriter
from control_api.store.tables import identities, runs
from orchestrator_runtime.contract.states import RunState, StepKind

OPEN_STATES = (RunState.PENDING, RunState.RUNNING, RunState.WAITING)
RunKey = tuple[str, str]  # organization, run
IdentityKey = tuple[str, str, str, str]  # organization, kind, agent, key


STEP_KINDS = frozenset(StepKind)
ENDS = frozenset({"run.succeeded", "run.failed", "run.cancelled", "step.succeeded", "step.failed"})


class Ended(NamedTuple):
    """A run or a step that has ended; of which agent, how, after how many seconds, with how many tokens of a model."""

    agent: str
    what: str  # run, or the kind of the step; `other` for one that we do not know
    state: str
    seconds: float | None  # None for a step of an older runtime
    input_tokens: int = 0
    output_tokens: int = 0


def dumps(value: Any) -> str:
    """JSON as it is stored."""
    return to_json(value).decode()


class Ledger:
    """Runs, identities and events of one transaction. `now` is the moment of the whole batch."""

    def __init__(
        self,
        session: WriteSession,
        *,
        keys: OrganizationKeys,
        now: float,
        weeks: frozenset[str],
        running: dict[RunKey, Run],
    ) -> None:
        """`weeks`: partitions that are known to exist. `running`: runs as they are in the database.

        A run is taken out of `running` when it is looked for: what becomes of it is not committed yet.
        """
        self.session = session
        self.keys = keys
        self.now = now
        self.partition = partitions.week(datetime.fromtimestamp(now, UTC))
        self._weeks = weeks
        self._running = running
        self._runs: dict[RunKey, Run | None] = {}
        self._new: dict[RunKey, Run] = {}
        self._changed: dict[RunKey, Run] = {}
        self._touched: dict[RunKey, Run] = {}
        self._ended: list[Ended] = []
        self._identities: dict[IdentityKey, tuple[str, str | None] | None] = {}
        self._new_identities: dict[IdentityKey, tuple[Any, ...]] = {}
        self._events: dict[str, list[tuple[Any, ...]]] = {}
        self._payloads = PayloadWriter(keys)

    # runs

    def load(self, keys: Iterable[RunKey]) -> None:
        """Read these runs with one statement, so that `find` needs none."""
        missing = []
        for key in keys:
            if key not in self._runs:
                run = self._runs[key] = self._running.pop(key, None)
                if run is None:
                    missing.append(key)
        for row in RUNS.find(self.session, missing):
            self._runs[row[0], row[1]] = Run(*row)

    def find(self, organization: str, run: str) -> Run | None:
        key = (organization, run)
        if key not in self._runs:
            self.load([key])
        return self._runs[key]

    def changed_elsewhere(self) -> list[Run]:
        """A statement is about to change rows: no run is known any more but those that were looked for: these."""
        self._running.clear()
        return [run for run in self._runs.values() if run is not None]

    def add(self, run: Run) -> None:
        key = (run.organization, run.id)
        self._runs[key] = self._new[key] = self._touched[key] = run

    def change(self, run: Run) -> None:
        """Note that `run` is to be written."""
        key = (run.organization, run.id)
        self._touched[key] = run
        if key not in self._new:
            self._changed[key] = run

    def take_touched(self) -> list[Run]:
        """The runs that were added or changed since the last time."""
        if not self._touched:
            return []
        touched, self._touched = list(self._touched.values()), {}
        return touched

    def take_ended(self) -> list[Ended]:
        """The runs and steps that have ended since the last time."""
        ended, self._ended = self._ended, []
        return ended

    def open_in_session(self, run: Run) -> list[Run]:
        """The session's runs that have not ended, in order, without `run` itself."""
        self.flush()
        query = (
            select(runs.c.id)
            .where(runs.c.organization == run.organization, runs.c.agent == run.agent)
            .where(runs.c.session == run.session, runs.c.id != run.id, runs.c.state.in_(OPEN_STATES))
            .order_by(runs.c.created_at, runs.c.id)
        )
        ids = list(self.session.execute(query).scalars())
        self.load((run.organization, identity) for identity in ids)
        found = (self.find(run.organization, identity) for identity in ids)
        return [other for other in found if other is not None]

    # identities

    def load_identities(self, keys: Iterable[IdentityKey]) -> None:
        """Read these keys and the runs they stand for."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._identities]
        self._identities.update(dict.fromkeys(missing))
        for organization, kind, agent, key, run, fingerprint, _ in IDENTITIES.find(self.session, missing):
            self._identities[organization, kind, agent, key] = (run, fingerprint)
        self.load((key[0], found[0]) for key in missing if (found := self._identities[key]) is not None)

    def identity(self, key: IdentityKey) -> tuple[str, str | None] | None:
        """The run that a key stands for, and the fingerprint of its body."""
        if key not in self._identities:
            self.load_identities([key])
        return self._identities[key]

    def identify(self, key: IdentityKey, run: str, fingerprint: str | None) -> None:
        """Let a key stand for a run from now on; the run it stood for before, if any, is gone."""
        if self.identity(key) is not None:
            named = zip(identities.primary_key.columns, key, strict=True)
            self.session.execute(delete(identities).where(*(column == value for column, value in named)))
        self._identities[key] = (run, fingerprint)
        self._new_identities[key] = (*key, run, fingerprint, self.now)

    # events

    def record(
        self,
        run: Run,
        kind: str,
        *,
        at: float | None = None,
        step: str | None = None,
        parent: str | None = None,
        name: str | None = None,
        step_kind: str | None = None,
        call: Any = None,
        data: Any = None,
        seconds: float | None = None,
        content: bytes | None = None,
    ) -> None:
        """Append an event to the run, with `content` sealed into it or stored apart.

        `seconds`: that a step took which has ended with it.
        """
        run.event_count = seq = run.event_count + 1
        inline = address = None
        if content is not None:
            key = self.keys.of(self.session, run.organization)
            if len(content) <= INLINE_BYTES:
                inline = key.seal(content, event_context(run.id, seq))
            else:
                address = self._payloads.put(key, run.organization, run.partition, content)
        self._events.setdefault(run.partition, []).append(
            (
                run.organization,
                run.id,
                seq,
                run.partition,
                self.now if at is None else at,
                kind,
                step,
                parent,
                name,
                step_kind,
                None if call is None else dumps(call),
                None if data is None else dumps(data),
                inline,
                address,
            )
        )
        self.change(run)
        if kind in ENDS:
            what, _, state = kind.partition(".")
            if what == "run":
                self._ended.append(Ended(run.agent, what, state, self.now - run.created_at))
            else:
                what = step_kind if step_kind in STEP_KINDS else "other"
                tokens = (_tokens(data, name) for name in ("input_tokens", "output_tokens"))
                self._ended.append(Ended(run.agent, what, state, seconds, *tokens))

    def inline(self, run: Run, seq: int) -> bytes | None:
        """The payload of one event; empty if it has none, None if it is one that is stored apart."""
        self.flush()
        table = events_of(run.partition)
        query = select(table.c.inline, table.c.payload).where(
            table.c.organization == run.organization, table.c.run == run.id, table.c.seq == seq
        )
        inline, address = self.session.execute(query).one()
        if inline is not None:
            return self.keys.of(self.session, run.organization).open(inline, event_context(run.id, seq))
        return None if address else b""

    def flush(self) -> None:
        """Write everything that is new or changed."""
        if self._new and self.partition not in self._weeks:
            partitions.create(self.session, self.partition)
        RUNS.insert(self.session, [whole_row(run) for run in self._new.values()])
        RUNS.update(self.session, CHANGING, [changed_row(run) for run in self._changed.values()])
        self._new.clear()
        self._changed.clear()
        IDENTITIES.insert(self.session, list(self._new_identities.values()))
        self._new_identities.clear()
        for partition, rows in self._events.items():
            events_table(partition).insert(self.session, rows)
        self._events.clear()
        self._payloads.flush(self.session)


def _tokens(data: Any, name: str) -> int:
    """What a model's step says of its tokens; an instance may write anything there."""
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def event_context(run: str, seq: int) -> bytes:
    """Where an inline payload stands; sealed with it, so that no row can pass for another."""
    return f"{run}/{seq}".encode()


def headers_context(run: str) -> bytes:
    """Where the header fields of a request stand."""
    return f"{run}/headers".encode()
