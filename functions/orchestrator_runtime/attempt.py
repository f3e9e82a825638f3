"""One attempt of a run in this instance: the agent works, and its end is committed before anybody hears of it."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator_runtime import unreachable
from orchestrator_runtime.contract.errors import (
    PROBLEM_CONTENT_TYPE,
    AgentError,
    Cancelled,
    Problem,
    TimedOut,
    from_document,
)
from orchestrator_runtime.contract.journal import FENCED, Ending
from orchestrator_runtime.frameworks.adapter import Agent, Answer, Call, Input
from orchestrator_runtime.frameworks.current import running
from orchestrator_runtime.frameworks.entrypoint import describe
from orchestrator_runtime.journal import JournalClient, RunJournal, writable
from orchestrator_runtime.telemetry import RunTrace

Emit = Callable[[str, Any], Awaitable[None]]
CANCELLED = "cancelled"
TIMED_OUT = "run_timed_out"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. Neither answer nor problem: another attempt has the run, or will have it."""

    answer: Answer | None = None
    problem: Problem | None = None

    def in_full(self) -> Answer | None:
        """The answer to send; a problem as its document."""
        if self.problem is None or self.answer is not None:
            return self.answer
        document = Answer.json(self.problem.document(), status=self.problem.status)
        return Answer(document.body, PROBLEM_CONTENT_TYPE, status=document.status)

    @property
    def status(self) -> int:
        """Of HTTP; 0 where there is no answer here."""
        if self.answer is not None:
            return self.answer.status
        return self.problem.status if self.problem is not None else 0


ELSEWHERE = Outcome()


def recorded(ending: Mapping[str, Any], body: bytes) -> Outcome:
    """The outcome of a run that has ended already."""
    problem = from_document(ending["problem"]) if "problem" in ending else None
    if problem is not None and not body:
        return Outcome(problem=problem)
    content_type, headers = ending.get("content_type", "application/json"), ending.get("headers") or {}
    return Outcome(Answer(body, content_type, status=ending["status"], headers=headers), problem)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Until it has ended, however. Unlike `asyncio.wait` it costs next to nothing; every call comes by."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
    await ended


class Attempt:
    """The attempt that an admission granted. `outcome` is there when it has ended and that is committed."""

    def __init__(
        self,
        client: JournalClient,
        admitted: Mapping[str, Any],
        *,
        agent: Agent,
        redact: Callable[[str], str],
        timeout: float,
        grace: float,
        on_stuck: Callable[[str], None],
        network: str,
        trace: RunTrace | None = None,
    ) -> None:
        """The agent may work for `timeout` seconds; `on_stuck(run)` if it does not stop within `grace` seconds.

        `network`: what it may reach, as `InstanceStart` says it.
        """
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.journal = RunJournal(client, admitted, on_fenced=partial(self.stop, FENCED), trace=trace)
        self._has_recorded = bool(admitted.get("recorded"))
        self._agent = agent
        self._redact = redact
        self._timeout = timeout
        self._grace = grace
        self._on_stuck = on_stuck
        self._network = network
        self._last_chance: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Answer] | None = None
        self._stopped: str | None = None

    def stop(self, why: str) -> None:
        """End the agent's work at its next chance: CANCELLED, TIMED_OUT or FENCED."""
        if self._task is None or self._task.done() or self._stopped == FENCED:
            return
        self._stopped = why if why == FENCED else self._stopped or why
        if self._last_chance is not None:  # told once: a second cancel would cut short the wait for a thread
            return
        loop = asyncio.get_running_loop()
        self._last_chance = loop.call_later(self._grace, self._on_stuck, self.journal.run)
        self.journal.cancelled = True
        self._task.cancel()

    async def execute(self, create_input: Callable[[], Input], *, stream: bool, emit: Emit) -> Outcome:
        """Let the agent work, and commit the end."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._timeout, self.stop, TIMED_OUT)
        self._task = loop.create_task(self._work(create_input, stream=stream, emit=emit))
        try:
            await _ended(self._task)
        finally:
            timer.cancel()
            if self._last_chance is not None:
                self._last_chance.cancel()
        outcome = await self._commit(self._result(self._task))
        if self.journal.trace is not None:
            self.journal.trace.end(outcome.status, error=None if outcome.problem is None else outcome.problem.code)
        self.outcome.set_result(outcome)
        return outcome

    async def _work(self, create_input: Callable[[], Input], *, stream: bool, emit: Emit) -> Answer:
        try:
            if self._has_recorded:
                await self.journal.fetch_recorded()
            call = Call(input=create_input(), run=self.journal, stream=stream, emit=emit)
            with running(call) as active:
                answer = await self._agent.run(call)
                await active.settle()
            await self.journal.flush()
        except (SystemExit, KeyboardInterrupt) as error:  # it would end the event loop, and with it other runs
            raise AgentError(
                f"The agent tried to end its process: {error!r}",
                code="agent_exited",
                hint="Return, or raise an exception, where it calls sys.exit.",
            ) from error
        return answer

    def _result(self, task: asyncio.Task[Answer]) -> Outcome:
        if task.cancelled():
            return Outcome(problem=self._why_stopped())
        error = task.exception()
        if self._stopped is not None and error is not None and not isinstance(error, Exception):
            return Outcome(problem=self._why_stopped())  # what ends an agent's thread is no error of the agent
        if error is None:
            answer = task.result()
            if answer.status < 500:
                return Outcome(answer)
            problem = AgentError(
                f"The agent answered with {answer.status}",
                code="agent_answered_error",
                hint="That is the agent's own answer; its log may say more.",
            )
            return Outcome(answer, problem)
        if isinstance(error, Problem):
            return Outcome(problem=self._redacted(error))
        traceback.print_exception(error)
        return Outcome(
            problem=self._redacted(
                AgentError(
                    describe(error),
                    code="agent_failed",
                    hint=f"{unreachable.hint(error, self._network)} The traceback is in the agent's log.".lstrip(),
                    error=type(error).__name__,
                )
            )
        )

    def _why_stopped(self) -> Problem:
        if self._stopped == TIMED_OUT:
            return TimedOut(
                f"The agent did not finish within {self._timeout:g} s",
                code=TIMED_OUT,
                hint="Raise timeouts.run in agent.yaml, or let the agent do less in one run.",
            )
        if self._stopped is None:
            return AgentError("The agent's task was cancelled from within", code="agent_failed", error="CancelledError")
        return Cancelled("The run was cancelled", code=CANCELLED, hint="Start it again with a new call.")

    def _redacted(self, problem: Problem) -> Problem:
        problem.detail = writable(self._redact(problem.detail))
        return problem

    async def _commit(self, outcome: Outcome) -> Outcome:
        """Record the end. What the caller hears is what was recorded."""
        if self._stopped == FENCED:
            return ELSEWHERE
        try:
            taken = await self._end(outcome)
        except Problem as problem:
            if problem.code == FENCED:
                return ELSEWHERE
            if outcome.problem is not None:  # even that cannot be recorded: the lease ends, and another attempt begins
                return ELSEWHERE
            return await self._commit(Outcome(problem=problem))  # an answer that the journal does not take
        return outcome if taken else ELSEWHERE

    async def _end(self, outcome: Outcome) -> bool:
        """Whether that is now how the run ended. Else there will be another attempt, or it was ended without us."""
        problem, answer = outcome.problem, outcome.answer
        if problem is None:
            assert answer is not None
            ending: Ending = {"state": "succeeded", "status": answer.status}
        else:
            ending = {
                "state": "cancelled" if isinstance(problem, Cancelled) else "failed",
                "status": outcome.status,
                "problem": problem.document(),
                "retryable": not 400 <= problem.status < 500 or problem.status == 429,
            }
        if self._has_recorded and not self._agent.resumes and (unasked := self.journal.unasked()):
            ending["unasked"] = unasked
        if answer is None:
            return await self.journal.end(ending, b"") == ending["state"]
        ending["content_type"] = writable(answer.content_type)
        if answer.headers:
            ending["headers"] = {writable(name): writable(value) for name, value in answer.headers.items()}
        return await self.journal.end(ending, answer.body) == ending["state"]
