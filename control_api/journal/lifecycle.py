"""How a run moves: the only code that changes its state, always with the event that says so.

A run that has not ended has exactly one of: a lease (`running`), a timer (`wait_until`), or a named event it waits for
(`session`: the end of the run before it). Every function here keeps that; the table's constraints repeat it.
"""

from __future__ import annotations

from typing import Any

from control_api.journal.ledger import Ledger, dumps
from control_api.journal.policies import Policy
from control_api.journal.records import Run
from orchestrator_runtime.contract.errors import BadGateway, Cancelled, Problem, TimedOut
from orchestrator_runtime.contract.journal import Ending
from orchestrator_runtime.contract.states import (
    RUN_TRANSITIONS,
    AttemptState,
    RunState,
    WaitReason,
    transition,
)

LEASE = 15.0  # seconds from admission or renewal
OVERTIME = 5.0  # seconds that an instance gets after an attempt's deadline to end it by itself
LOST_LIMIT = 3  # lost attempts after which there is another one
HEAD_START = 1.0  # seconds in which a caller's own instance may take its run before the dispatcher sends it


def _move(run: Run, following: RunState) -> None:
    """Enter a state without what belongs to the one before: the caller sets what belongs to the new one."""
    run.state = transition(RUN_TRANSITIONS, RunState(run.state), following)
    run.wait_reason = run.wait_until = None
    run.instance = run.lease_expires_at = run.deadline_at = None


def start(ledger: Ledger, run: Run, *, instance: str, timeout: float, content: bytes | None = None) -> None:
    """Grant `instance` a lease, with a new epoch: the next attempt begins."""
    _move(run, RunState.RUNNING)
    run.epoch += 1
    run.attempt += 1
    run.batch = 0
    run.instance = instance
    run.timeout = timeout
    run.deadline_at = ledger.now + timeout + OVERTIME
    run.lease_expires_at = min(ledger.now + LEASE, run.deadline_at)
    if run.started_at is None:
        run.started_at = ledger.now
    data = {"attempt": run.attempt, "epoch": run.epoch, "instance": instance, "revision": run.revision}
    ledger.record(run, "run.started", data=data, content=content)


def wait(
    ledger: Ledger, run: Run, reason: WaitReason, *, until: float | None, content: bytes | None = None, **data: Any
) -> None:
    """Leave the run without an instance until `until`, or, for a session, until its turn has come."""
    if run.wait_reason is None:
        _move(run, RunState.WAITING)
    run.wait_reason = reason
    run.wait_until = until
    ledger.record(run, "run.waiting", data={"reason": reason, "until": until, **data}, content=content)


def finish(ledger: Ledger, run: Run, ending: Ending, *, content: bytes | None = None, **data: Any) -> None:
    """End the run, and let the next one of its session begin. `data` goes into the event."""
    state = RunState(ending["state"])
    _move(run, state)
    run.ended_at = ledger.now
    run.status = ending["status"]
    answer = {name: ending[name] for name in ("content_type", "headers") if name in ending}
    problem, usage = ending.get("problem"), ending.get("usage")
    run.answer = dumps(answer) if answer else None
    run.problem = dumps(problem) if problem else None
    run.usage = dumps(usage) if usage else None
    data = {"status": run.status, "attempt": run.attempt, **_told(ending), **data}
    ledger.record(run, f"run.{state}", data=data, content=content)
    if run.session is not None:
        wake_session(ledger, run)


def wake_session(ledger: Ledger, run: Run) -> Run | None:
    """Let the first run go on that waits for its session, unless another one is at work; returns it."""
    others = ledger.open_in_session(run)
    waiting = [other for other in others if other.wait_reason == WaitReason.SESSION]
    if not waiting or len(waiting) < len(others):
        return None
    following = waiting[0]
    head_start = 0.0 if following.background else HEAD_START
    wait(ledger, following, WaitReason.DISPATCH, until=ledger.now + head_start)
    return following


def fail(
    ledger: Ledger, run: Run, ending: Ending, *, policy: Policy, retryable: bool, content: bytes | None = None
) -> None:
    """The agent failed: another attempt if its policy has one left, else the end."""
    run.failed_count += 1
    delay = policy.retry_delay(run.failed_count, background=bool(run.background))
    if not retryable or delay is None or run.cancel_requested_at is not None:
        finish(ledger, run, ending, content=content)
        return
    problem = ending.get("problem")
    run.problem = dumps(problem) if problem else None
    ended = {"attempt": run.attempt, "attempt_state": AttemptState.FAILED, **_told(ending)}
    wait(ledger, run, WaitReason.RETRY, until=ledger.now + delay, content=content, **ended)


def lose(ledger: Ledger, run: Run, *, why: str) -> None:
    """The executor has gone: another attempt, unless that has happened too often or the run was cancelled meanwhile."""
    run.lost_count += 1
    if run.cancel_requested_at is not None:
        cancel(ledger, run)
        return
    if run.lost_count > LOST_LIMIT:
        problem = BadGateway(
            f"{run.lost_count} instances went away while they worked on this run; the last one: {why}",
            code="executor_lost",
            hint="It may need more memory than resources.memory, or exit by itself: see the agent's logs.",
        )
        finish(ledger, run, failed(problem), attempt_state=AttemptState.LOST, why=why)
        return
    delay = float(2 ** (run.lost_count - 1) - 1)  # at once, then after 1 and 3 seconds
    ended: dict[str, Any] = {"attempt": run.attempt, "attempt_state": AttemptState.LOST, "why": why}
    wait(ledger, run, WaitReason.DISPATCH, until=ledger.now + delay, **ended)


def overdue(ledger: Ledger, run: Run, *, policy: Policy) -> None:
    """The attempt's time is over and its instance did not end it."""
    problem = TimedOut(
        f"The agent did not finish within {run.timeout:g} s",
        code="run_timed_out",
        hint="Raise timeouts.run in agent.yaml, or let the agent do less in one run.",
    )
    fail(ledger, run, failed(problem), policy=policy, retryable=True)


def _told(ending: Ending) -> dict[str, Any]:
    """What the event of an end says besides."""
    return {name: ending[name] for name in ("problem", "unasked") if ending.get(name)}


def failed(problem: Problem) -> Ending:
    return {"state": "failed", "status": problem.status, "problem": problem.document()}


def cancel(ledger: Ledger, run: Run) -> None:
    """End the run as cancelled, whatever it was doing."""
    problem = Cancelled("The run was cancelled", code="cancelled", hint="Start it again with a new call.")
    finish(ledger, run, {"state": "cancelled", "status": 499, "problem": problem.document()})


def request_cancel(ledger: Ledger, run: Run) -> None:
    """Ask the instance that has the run to stop it; a run that nobody works on ends at once."""
    if run.ended or run.cancel_requested_at is not None:
        return
    run.cancel_requested_at = ledger.now
    if run.running:
        ledger.record(run, "run.cancel_requested")
    else:
        cancel(ledger, run)


def again(ledger: Ledger, run: Run) -> None:
    """Give a failed run another attempt, as if it had not failed before."""
    busy = run.session is not None and bool(ledger.open_in_session(run))
    run.failed_count = run.lost_count = 0
    run.background = 1  # whoever called it has long had its answer
    run.ended_at = run.status = run.answer = run.problem = run.usage = run.cancel_requested_at = None
    reason = WaitReason.SESSION if busy else WaitReason.DISPATCH
    wait(ledger, run, reason, until=None if busy else ledger.now)
