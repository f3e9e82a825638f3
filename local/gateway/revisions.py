"""The instances of one revision and the calls that wait for them: first come, first served.

It starts and stops instances as the autoscaler decides; the supervisor does it, through `Engine`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from domain.clock import Clock
from local.autoscaler import Observation, ScaleState, adopt, decide, record
from local.gateway import liveness
from local.gateway.balancing import choose
from local.gateway.metrics import Signals
from local.gateway.routes import RevisionRoute
from local.gateway.upstream import Origin
from orchestrator_runtime.contract import headers
from orchestrator_runtime.contract.errors import Problem, Unavailable

logger = logging.getLogger("gateway.revisions")

FIRST_PAUSE = 0.5  # seconds after a start that failed
LONGEST_PAUSE = 60.0
SOON = 10.0  # an instance that ends so soon after it became ready counts as a start that failed


class Waiter(Protocol):
    """A call that waits for an instance; it gets exactly one of the two, unless it leaves."""

    def assigned(self, instance: Instance) -> None: ...

    def refused(self, problem: Problem) -> None: ...


class Instance:
    """One instance as the gateway sees it."""

    __slots__ = ("address", "call_token_line", "failed_probes", "id", "in_flight", "origin", "ready_at")

    def __init__(self, info: Mapping[str, Any], *, now: float) -> None:
        self.id: str = info["instance"]
        self.address: str = info["socket"]
        self.origin = Origin(self.address)
        self.call_token_line = f"{headers.CALL_TOKEN}: {info['call_token']}\r\n".encode()
        self.in_flight = 0
        self.failed_probes = 0
        self.ready_at = now


@dataclass(frozen=True, slots=True)
class Engine:
    """What a revision needs from the outside."""

    clock: Clock
    random: Callable[[], float]
    start: Callable[[RevisionRoute], Awaitable[Mapping[str, Any]]]
    """Start an instance: its InstanceInfo when it is ready, or `Problem`."""
    stop: Callable[[str, float], Awaitable[None]]
    """Stop an instance within a grace period."""
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Run in the background, owned by the gateway."""
    report: Callable[[Mapping[str, Any]], None]
    """Tell the server a revision's status."""


class ServedRevision:
    """All that the gateway knows of one revision."""

    def __init__(self, route: RevisionRoute, *, engine: Engine, queue_depth: int) -> None:
        self.route = route
        self.signals = Signals()
        self.ready: list[Instance] = []
        self.retiring: list[Instance] = []
        self.starting = 0
        self.desired = 0
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()
        self.problem: Problem | None = None  # of the last start, until one succeeds
        self._engine = engine
        self._queue_depth = queue_depth
        self._turn = 0
        self._in_flight = 0
        self._integral = 0.0  # calls times seconds since `_measured_at`
        self._arrived = 0
        self._changed_at = self._measured_at = engine.clock.monotonic()
        self._scale: ScaleState | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._was_ready = False
        self._reported: tuple[object, ...] = ()

    # calls

    @property
    def busy(self) -> int:
        """Calls that are worked on or wait."""
        return self._in_flight + len(self.waiting)

    def acquire(self, waiter: Waiter) -> Instance | None:
        """An instance with room, or None: then `waiter` is told later.

        Raises `Unavailable`: the queue is full, or no instance can be started at present.
        """
        self._meter()
        self._arrived += 1
        if not self.waiting:
            instance = self._choose()
            if instance is not None:
                return instance
        if len(self.waiting) >= self._queue_depth:
            raise Unavailable("pending request queue full", code="queue_full", hint="Try again later.")
        if self.problem is not None and not self._startable():
            raise self._not_startable()
        self.waiting[waiter] = None
        if not self.ready and not self.starting:
            self.poke()
        return None

    def leave(self, waiter: Waiter) -> None:
        """The waiter has gone, or waited too long."""
        self._meter()
        self.waiting.pop(waiter, None)

    def release(self, instance: Instance) -> None:
        """A call on this instance is over."""
        self._meter()
        instance.in_flight -= 1
        self._in_flight -= 1
        if self.waiting:
            self._serve_waiting()
        if instance.in_flight == 0 and instance in self.retiring:
            self._stop(instance)

    def _choose(self) -> Instance | None:
        self._turn += 1
        limit = self.route.scale.concurrency_limit
        instance = choose(self.ready, limit=limit, turn=self._turn, random=self._engine.random)
        if instance is not None:
            instance.in_flight += 1
            self._in_flight += 1
        return instance

    def _serve_waiting(self) -> None:
        while self.waiting:
            instance = self._choose()
            if instance is None:
                return
            waiter, _ = self.waiting.popitem(last=False)
            waiter.assigned(instance)

    # load

    def _meter(self) -> None:
        now = self._engine.clock.monotonic()
        self._integral += (self._in_flight + len(self.waiting)) * (now - self._changed_at)
        self._changed_at = now

    def _load(self) -> float:
        """Mean concurrency, or requests per second, since the last time this was asked."""
        self._meter()
        elapsed = self._changed_at - self._measured_at
        amount = self._integral if self.route.scale.metric == "concurrency" else float(self._arrived)
        self._integral, self._arrived, self._measured_at = 0.0, 0, self._changed_at
        return amount / elapsed if elapsed > 0 else 0.0

    @property
    def asleep(self) -> bool:
        """Scaled to zero, with nothing to measure or to decide."""
        idle = not (self.ready or self.starting or self.waiting)
        return idle and self.desired == 0 and self.route.scale.min == 0

    def measure(self) -> None:
        """Note the load of the last second."""
        if not self.asleep:
            now = self._engine.clock.monotonic()
            self._scale = record(self.route.scale, self._state(now), self._load(), now=now)

    def _state(self, now: float) -> ScaleState:
        if self._scale is None:
            self._scale = adopt(ready=len(self.ready), now=now)
        return self._scale

    def decide(self) -> None:
        """What the autoscaler says now becomes true."""
        if not self.asleep:
            self._decide(None)

    def poke(self) -> None:
        """A call has reached a revision without an instance."""
        self._decide(float(max(1, self.busy)))

    def _decide(self, load: float | None) -> None:
        now = self._engine.clock.monotonic()
        seen = Observation(ready=len(self.ready), load=load)
        self._scale, desired = decide(self.route.scale, self._state(now), seen, now=now)
        self.desired = max(desired, 1 if self.waiting else 0)
        self._reconcile(now)
        self.report()

    def _reconcile(self, now: float) -> None:
        missing = self.desired - len(self.ready) - self.starting
        if missing > 0 and now >= self._retry_at:
            for _ in range(missing):
                self.starting += 1
                self._engine.spawn(self._start())
        elif missing > 0 and self.problem is not None and not self._startable():
            self._refuse_waiting()
        elif missing < 0 and not self.waiting:
            idlest = sorted(self.ready, key=lambda instance: instance.in_flight)
            for instance in idlest[:-missing]:
                self.retire(instance)

    # instances

    async def start_one(self) -> None:
        """Start an instance because somebody wants to see that it can. Raises the problem it failed with."""
        self.starting += 1
        await self._started()

    async def _start(self) -> None:
        try:
            await self._started()
        except Problem as problem:
            logger.warning("%s could not start: %s", self.route.name, problem, extra={"code": problem.code})

    async def _started(self) -> None:
        try:
            info = await self._engine.start(self.route)
        except Problem as problem:
            self.starting -= 1
            self.problem = problem
            self._pause()
            self._failures += 1
            if not self.ready and not self.starting:
                self._refuse_waiting()
            self.report(failed=True)
            raise
        except BaseException:  # the gateway is being stopped: only the count must stay right
            self.starting -= 1
            raise
        self.starting -= 1
        self.add(info)

    def add(self, info: Mapping[str, Any]) -> None:
        """An instance is ready; it may be told more than once."""
        if any(instance.id == info["instance"] for instance in (*self.ready, *self.retiring)):
            return
        now = self._engine.clock.monotonic()
        self.ready.append(Instance(info, now=now))
        self.problem = None
        self._was_ready = True
        self._retry_at = 0.0
        self._meter()
        self._serve_waiting()
        self.report()

    def retire(self, instance: Instance) -> None:
        """Give it no more calls, and stop it after those it has."""
        self.ready.remove(instance)
        self.retiring.append(instance)
        if instance.in_flight == 0:
            self._stop(instance)

    def probe(self, *, within: float) -> None:
        """Ask every idle instance whether it lives; one that does not say so several times is replaced."""
        for instance in self.ready:
            if instance.in_flight == 0:
                self._engine.spawn(self._probe(instance, within))

    async def _probe(self, instance: Instance, within: float) -> None:
        alive = await liveness.answers(instance.address, instance.call_token_line, within=within)
        if alive or instance.in_flight or instance not in self.ready:
            instance.failed_probes = 0
            return
        instance.failed_probes += 1
        if instance.failed_probes >= liveness.FAILURE_THRESHOLD:
            logger.warning("%s does not answer any more: it is replaced", instance.id)
            self.replace(instance.id, grace=0.0)

    def replace(self, instance_id: str, *, grace: float) -> None:
        """Give it no more calls, and stop it although it has some: they get `grace` seconds."""
        for instance in list(self.ready):
            if instance.id == instance_id:
                self.ready.remove(instance)
                self.retiring.append(instance)
        for instance in list(self.retiring):
            if instance.id == instance_id:
                self._stop(instance, grace=grace)
        if self.waiting and not self.ready and not self.starting:
            self.poke()
        self.report()

    def retire_all(self) -> None:
        """The revision is served no more."""
        for instance in list(self.ready):
            self.retire(instance)
        self.desired = 0
        waiting, self.waiting = self.waiting, OrderedDict()
        for waiter in waiting:
            waiter.refused(Unavailable("This revision is not served any more", code="revision_removed"))

    def _stop(self, instance: Instance, *, grace: float | None = None) -> None:
        self.retiring.remove(instance)
        instance.origin.close()
        self._engine.spawn(self._stopped(instance.id, self.route.grace if grace is None else grace))

    async def _stopped(self, instance_id: str, grace: float) -> None:
        try:
            await self._engine.stop(instance_id, grace)
        except Problem as problem:  # it has gone already, or the supervisor has: there is nothing left to stop
            logger.info("%s could not be stopped: %s", instance_id, problem)

    def gone(self, instance_id: str, *, reason: str) -> None:
        """An instance has ended. The calls on it notice by themselves: their connections break."""
        for group in (self.ready, self.retiring):
            for instance in group:
                if instance.id == instance_id:
                    group.remove(instance)
                    instance.origin.close()
                    self._ended(instance, reason)
                    return

    def _ended(self, instance: Instance, reason: str) -> None:
        now = self._engine.clock.monotonic()
        if reason != "stopped" and now - instance.ready_at < SOON:
            if self._failures:  # once may be an accident: callers do not wait for it
                self._pause()
            self._failures += 1
        if self.waiting and not self.ready and not self.starting:
            self.poke()
        self.report()

    def _pause(self) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 10), LONGEST_PAUSE)
        self._retry_at = self._engine.clock.monotonic() + pause

    def _startable(self) -> bool:
        """Whether a call may hope for an instance: there is one, or one is coming, or one may be started."""
        return bool(self.ready or self.starting) or self._engine.clock.monotonic() >= self._retry_at

    def succeeded(self) -> None:
        """A call was answered: instances of this revision do work."""
        self._failures = 0

    def _refuse_waiting(self) -> None:
        waiting, self.waiting = self.waiting, OrderedDict()
        for waiter in waiting:
            waiter.refused(self._not_startable())

    def _not_startable(self) -> Unavailable:
        cause = self.problem
        detail = cause.detail if cause else "it has failed before"
        return Unavailable(
            f"No instance of {self.route.agent} can be started: {detail}",
            code="instance_start_failed",
            hint=(cause.hint if cause else "") or f"Look at `orchestrator logs {self.route.agent}`.",
            **({"cause": _without_log(cause)} if cause else {}),
        )

    # status

    def report(self, *, failed: bool = False) -> None:
        """Tell the server what it does not know yet."""
        state = "failed" if failed and not self._was_ready else "ready" if self._was_ready else "deploying"
        status = (state, len(self.ready), self.desired, self.problem)
        if status == self._reported:
            return
        self._reported = status
        self._engine.report(self.status(state))

    def tell_again(self) -> None:
        """The server was restarted and knows nothing."""
        self._reported = ()
        self.report()

    def status(self, state: str) -> dict[str, Any]:
        return {
            "organization": self.route.organization,
            "revision": self.route.name,
            "state": state,
            "ready_instances": len(self.ready),
            "desired_instances": self.desired,
            "problem": self.problem.document() if self.problem else None,
        }


def _without_log(problem: Problem) -> dict[str, Any]:
    """Who may call an agent may not therefore read its log."""
    return {name: value for name, value in problem.document().items() if name != "log"}
