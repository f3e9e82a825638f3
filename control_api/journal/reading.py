"""The read side that the journal itself needs: results, recorded calls, what is due, what has run out.

What people see of runs is read in `control_api.runs.repository`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, RowMapping, Select, TextClause, exists, func, or_, select, text, tuple_

from control_api.journal.ledger import OPEN_STATES, RunKey, event_context
from control_api.store.database import ReadSession
from control_api.store.keys import OrganizationKeys
from control_api.store.partitions import events_of
from control_api.store.payloads import read_payload
from control_api.store.tables import ASLEEP, LEASED, identities, runs
from orchestrator_runtime.contract.errors import NotFound
from orchestrator_runtime.contract.states import WaitReason
from orchestrator_runtime.contract.wire import Message, with_parts


def run_unknown(run: str) -> NotFound:
    return NotFound(f"There is no run {run}", code="run_unknown", hint="`orchestrator runs` lists them.")


def content(
    session: ReadSession, keys: OrganizationKeys, organization: str, run: str, *, partition: str, seq: int
) -> bytes:
    """The payload of one event; empty if it has none. Raises `NotFound` (`payload_gone`)."""
    table = events_of(partition)
    query = select(table.c.inline, table.c.payload).where(
        table.c.organization == organization, table.c.run == run, table.c.seq == seq
    )
    found = session.execute(query).mappings().one_or_none()
    return opened(session, keys, organization, run, partition=partition, seq=seq, stored=found) if found else b""


def opened(
    session: ReadSession,
    keys: OrganizationKeys,
    organization: str,
    run: str,
    *,
    partition: str,
    seq: int,
    stored: RowMapping,
) -> bytes:
    """The content of an event of which `inline` and `payload` were read."""
    key = keys.of(session, organization)
    if stored["inline"] is not None:
        return key.open(stored["inline"], event_context(run, seq))
    if stored["payload"] is not None:
        return read_payload(session, key, organization, partition, stored["payload"])
    return b""


def identify(session: ReadSession, *, organization: str, agent: str, run: str, key: str | None) -> str | None:
    """The identity that a call of the agent got: that of its key, else the one it was given. None: no such run."""
    if key is not None:
        query = select(identities.c.run).where(
            identities.c.organization == organization,
            identities.c.kind == "key",
            identities.c.agent == agent,
            identities.c.key == key,
        )
        run = session.execute(query).scalar_one_or_none() or run
    known = select(runs.c.id).where(runs.c.organization == organization, runs.c.id == run, runs.c.agent == agent)
    return session.execute(known).scalar_one_or_none()


def result(session: ReadSession, *, keys: OrganizationKeys, organization: str, run: str) -> Message:
    """found, run, state; `ending` and the answer as body once it has ended."""
    row = session.execute(select(runs).where(runs.c.organization == organization, runs.c.id == run)).mappings().one()
    fields = {"found": True, "run": run, "state": row["state"]}
    if row["ended_at"] is None:
        return Message(fields)
    ending = {"state": row["state"], "status": row["status"], **(row["answer"] or {})}
    ending |= {name: value for name in ("problem", "usage") if (value := row[name]) is not None}
    body = content(session, keys, organization, run, partition=row["partition"], seq=row["event_count"])
    return Message({**fields, "ending": ending}, body)


def recorded(session: ReadSession, *, keys: OrganizationKeys, organization: str, agent: str, run: str) -> Message:
    """The calls of a run that are recorded, with their results. Raises `NotFound` (`run_unknown`)."""
    query = select(runs.c.partition).where(runs.c.organization == organization, runs.c.id == run, runs.c.agent == agent)
    partition = session.execute(query).scalar_one_or_none()
    if partition is None:
        raise run_unknown(run)
    table = events_of(partition)
    found = (
        select(table.c.seq, table.c.call, table.c.inline, table.c.payload)
        .where(table.c.organization == organization, table.c.run == run)
        .where(table.c.kind == "step.succeeded", table.c.call.is_not(None))
        .order_by(table.c.seq)
    )
    calls: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for row in session.execute(found).mappings():
        calls.append({**row["call"], "part": len(blobs)})
        blobs.append(opened(session, keys, organization, run, partition=partition, seq=row["seq"], stored=row))
    return with_parts({"calls": calls}, blobs)


class Attempt(NamedTuple):
    """A run, and the newest lease that was granted for it."""

    organization: str
    run: str
    agent: str
    epoch: int


def _attempts(*conditions: ColumnElement[bool] | TextClause) -> Select[Any]:
    return select(runs.c.organization, runs.c.id, runs.c.agent, runs.c.epoch).where(*conditions)


SENDABLE = (text(ASLEEP), runs.c.wait_reason.in_((WaitReason.DISPATCH, WaitReason.RETRY)))


def due(
    session: ReadSession, *, now: datetime, limit: int, except_agents: Collection[tuple[str, str]]
) -> tuple[list[Attempt], datetime | None]:
    """Runs that are to be sent to an instance now, the longest waiting first, and when the next one will be.

    `except_agents`: (organization, agent) that get no more for now.
    """
    query = _attempts(*SENDABLE, runs.c.wait_until <= now).order_by(runs.c.wait_until).limit(limit)
    if except_agents:
        query = query.where(tuple_(runs.c.organization, runs.c.agent).not_in(list(except_agents)))
    found = [Attempt(*row) for row in session.execute(query)]
    following = select(func.min(runs.c.wait_until)).where(*SENDABLE, runs.c.wait_until > now)
    return found, session.execute(following).scalar_one()


def dispatch(session: ReadSession, attempt: Attempt, *, keys: OrganizationKeys) -> Message | None:
    """What `run.dispatch` sends: fields, and the input as body. None if the run needs no sending any more."""
    mine = (runs.c.organization == attempt.organization, runs.c.id == attempt.run, runs.c.epoch == attempt.epoch)
    row = session.execute(select(runs).where(*mine, *SENDABLE)).one_or_none()
    if row is None:
        return None
    body = content(session, keys, attempt.organization, attempt.run, partition=row.partition, seq=1)
    fields = {
        "organization": row.organization,
        "run": row.id,
        "agent": row.agent,
        "revision": row.revision,
        "request": row.request,
        "deadline": row.timeout,
        "correlation": row.correlation,
        "caller": row.caller,
        "traceparent": row.traceparent,
    }
    return Message(fields, body)


def expired(session: ReadSession, *, now: datetime) -> list[Attempt]:
    """Attempts whose lease is over, or that were told to stop; no lease outlives its attempt's deadline."""
    over = or_(runs.c.lease_expires_at <= now, runs.c.cancel_requested_at.is_not(None))
    return [Attempt(*row) for row in session.execute(_attempts(text(LEASED), over))]


def told_to_stop(session: ReadSession, *, instance: str) -> list[tuple[str, str, str]]:
    """(organization, run, revision) of what the instance works on although somebody has cancelled it."""
    query = select(runs.c.organization, runs.c.id, runs.c.revision).where(
        text(LEASED), runs.c.instance == instance, runs.c.cancel_requested_at.is_not(None)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def stuck_in_sessions(session: ReadSession) -> list[RunKey]:
    """The first run of each session in which every open run waits for another one."""
    other = runs.alias()
    busy = exists().where(
        other.c.organization == runs.c.organization,
        other.c.agent == runs.c.agent,
        other.c.session == runs.c.session,
        other.c.state.in_(OPEN_STATES),
        or_(other.c.wait_reason.is_(None), other.c.wait_reason != WaitReason.SESSION),
    )
    query = (
        select(runs.c.organization, runs.c.agent, runs.c.session, runs.c.id)
        .where(text("runs." + ASLEEP), runs.c.wait_reason == WaitReason.SESSION, ~busy)
        .order_by(runs.c.created_at.desc(), runs.c.id.desc())
    )
    first = {(row[0], row[1], row[2]): (row[0], row[3]) for row in session.execute(query)}  # the oldest one stays
    return list(first.values())
