"""The journal as the rest of the server sees it: takes operations, and answers them after their commit.

An operation that cannot be answered yet (`Later`) is kept until the run it depends on has left its instance, and is
then executed again. Nobody is asked to poll: whoever follows a run watches its topic in `Changes`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from control_api.changes import Changes, run_topic
from control_api.journal import reading
from control_api.journal.admission import Submit
from control_api.journal.lane import Executed, JournalLane
from control_api.journal.ledger import Ended, RunKey
from control_api.journal.operations import Again, Cancel, Later, LoseInstances, Operation, Renew, Stored
from control_api.journal.records import Run
from control_api.store.database import Database, ReadSession
from control_api.store.keys import OrganizationKeys
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Problem, TooMany, Unavailable
from orchestrator_runtime.contract.journal import Admission
from orchestrator_runtime.contract.wire import Message

Answer = asyncio.Future[Message]
CancelListener = Callable[[str, str, float], None]
"""(instance, run, grace): the instance has `grace` seconds to stop the run."""
RunListener = Callable[[Sequence[Run]], None]
"""Runs that a commit has changed. Must not block, nor change them."""


EndListener = Callable[[Ended], None]
"""A run or a step whose end was committed. Must not block."""

MOST_PARKED = 20_000  # operations of one organization that wait for a run; a gateway lets 10,000 calls wait


class Journal:
    """Belongs to one event loop. Everything it answers has been committed."""

    def __init__(self, database: Database, *, keys: OrganizationKeys, clock: Clock, changes: Changes) -> None:
        self.database = database
        self.keys = keys
        self.clock = clock
        self._changes = changes
        self._lane = JournalLane(keys, clock, is_only_writer=database.dialect == "sqlite")
        self._loop = asyncio.get_running_loop()
        self._parked: defaultdict[RunKey, dict[Answer, Operation]] = defaultdict(dict)
        self._parked_counts: Counter[str] = Counter()  # by organization
        self._run_listeners: list[RunListener] = []
        self._cancel_listeners: list[CancelListener] = []
        self._end_listeners: list[EndListener] = []

    # what others ask

    async def submit(self, organization: str, agent: str, revision: str, admission: Admission, body: bytes) -> Message:
        """Accept a run that the dispatcher will send to an instance. Reply: run, state.

        Raises `Unprocessable` (`idempotency_key_reused`).
        """
        return await self.execute(Submit(organization, agent, revision, admission, body))

    async def result(self, organization: str, *, run: str, agent: str, key: str | None, wait: float) -> Message:
        """How a run ended: found, run, state, ending; body: its answer. Waits up to `wait` seconds for the end.

        The run is the one of the Idempotency-Key `key`, if that is given and known, else `run`.
        """
        find = partial(reading.identify, organization=organization, agent=agent, run=run, key=key)
        identity = await self.database.read(find)
        if identity is None:
            return Message({"found": False})
        look = partial(reading.result, keys=self.keys, organization=organization, run=identity)
        with self._changes.watch(run_topic(identity)) as changed:
            found = await self.database.read(look)
            with contextlib.suppress(TimeoutError):  # then the answer is that it has not ended
                async with asyncio.timeout(wait):
                    while "ending" not in found.fields:
                        await changed.wait()
                        changed.clear()
                        found = await self.database.read(look)
        return found

    async def cancel(self, organization: str, run: str) -> Message:
        """Ask a run to stop. Reply: state. Raises `NotFound` (`run_unknown`)."""
        reply = await self.execute(Cancel(organization, run))
        if "instance" in reply.fields:
            for listener in self._cancel_listeners:
                listener(reply.fields["instance"], run, reply.fields["grace"])
        return Message({"state": reply.fields["state"]})

    async def again(self, organization: str, run: str) -> Message:
        """Try a failed run again. Reply: state. Raises `NotFound` (`run_unknown`), `Conflict` (`run_not_failed`)."""
        return await self.execute(Again(organization, run))

    async def instances_lost(self, instances: Iterable[str], why: str) -> None:
        """These instances have gone; their runs get another attempt."""
        await self.execute(LoseInstances(frozenset(instances), why))

    async def instances_alive(self, instances: Iterable[str]) -> None:
        """These are all instances that there are: they keep what they have, what any other one had is lost."""
        living = frozenset(instances)
        lost = self.execute(LoseInstances(living, "it was gone when the server came back", alive=True))
        await asyncio.gather(self.execute(Renew(living)), lost)

    async def renew(self, instances: Iterable[str]) -> None:
        """These instances live; their leases are extended."""
        await self.execute(Renew(frozenset(instances)))

    # what the rest of this package asks

    def execute(self, operation: Operation, let_go: Callable[[], None] | None = None) -> Answer:
        """Queue an operation for the next commit. Cancel the answer if nobody wants it any more.

        `let_go` is called when it has been executed, and what came with it is not held any more; that may be earlier
        than its answer. An answer to an admission may be `Stored`.
        """
        answer: Answer = self._loop.create_future()
        self._enqueue(operation, answer, let_go)
        return answer

    async def fetch(self, stored: Stored) -> Message:
        """The reply, with its body. Raises `NotFound` (`payload_gone`)."""
        organization, run, partition, seq = stored.organization, stored.run, stored.partition, stored.seq
        body = await self.database.read(
            lambda session: reading.content(session, self.keys, organization, run, partition=partition, seq=seq)
        )
        return Message(stored.fields, body)

    async def told_to_stop(self, instance: str) -> list[tuple[str, float]]:
        """(run, grace) of what the instance works on although somebody has cancelled it."""
        policies = self._lane.policies

        def read(session: ReadSession) -> list[tuple[str, float]]:
            found = reading.told_to_stop(session, instance=instance)
            return [(run, policies.of(session, organization, revision).grace) for organization, run, revision in found]

        return await self.database.read(read)

    def on_change(self, listener: RunListener) -> None:
        self._run_listeners.append(listener)

    def on_cancel(self, listener: CancelListener) -> None:
        self._cancel_listeners.append(listener)

    def on_end(self, listener: EndListener) -> None:
        self._end_listeners.append(listener)

    # after the commit

    def _enqueue(
        self,
        operation: Operation,
        answer: Answer,
        let_go: Callable[[], None] | None = None,
        *,
        is_second: bool = False,
    ) -> None:
        settle = partial(self._committed, operation, answer, let_go, is_second)
        self.database.enqueue(self._lane, operation, settle)

    def _committed(
        self,
        operation: Operation,
        answer: Answer,
        let_go: Callable[[], None] | None,
        is_second: bool,
        executed: Executed | BaseException,
    ) -> None:
        if isinstance(executed, Unavailable) and operation.is_repeated and not is_second:
            self._enqueue(operation, answer, let_go, is_second=True)
            return
        if let_go is not None:
            let_go()
        if isinstance(executed, BaseException):
            if not answer.done():
                answer.set_exception(executed)
            return
        outcome, touched, ended = executed
        if answer.done():
            pass  # whoever asked has gone
        elif isinstance(outcome, Problem):
            answer.set_exception(outcome)
        elif isinstance(outcome, Later):
            self._park(outcome.run, operation, answer)
        else:
            answer.set_result(outcome or Message())
        if touched:
            self._changed(touched)
        for end in ended:
            for listener in self._end_listeners:
                listener(end)

    def _changed(self, touched: Sequence[Run]) -> None:
        for run in touched:
            self._lane.committed(run)
            self._changes.publish(run_topic(run.id))
            if not run.running and self._parked:
                parked = self._parked.pop((run.organization, run.id), {})
                self._parked_counts[run.organization] -= len(parked)
                for answer, operation in parked.items():
                    self._enqueue(operation, answer)
        for listener in self._run_listeners:
            listener(touched)

    def _park(self, key: RunKey, operation: Operation, answer: Answer) -> None:
        organization, _ = key
        if self._parked_counts[organization] >= MOST_PARKED:
            answer.set_exception(
                TooMany(
                    "Too many calls wait for runs that have not ended",
                    code="too_many_waiting",
                    hint="Try again later, or use more sessions: the runs of one go one at a time.",
                )
            )
            return
        operation.keep_waiting()
        self._parked_counts[organization] += 1
        self._parked[key][answer] = operation
        answer.add_done_callback(partial(self._unpark, key))

    def _unpark(self, key: RunKey, answer: Answer) -> None:
        waiting = self._parked.get(key)
        if waiting is not None:
            if waiting.pop(answer, None) is not None:
                self._parked_counts[key[0]] -= 1
            if not waiting:
                del self._parked[key]
