"""How many instances a revision should have: Knative's pod autoscaler (KPA) as pure functions.

The gateway records one value per second and asks `decide` every two seconds, and at once when a call reaches a
revision that has no instance. Nothing here looks at a clock or keeps a state of its own. What Knative does because its
measurements and its routing lag behind (sampling, burst capacity, programming of networks) has no counterpart: the
gateway sees every call, as Knative's activator does with a target burst capacity of -1.

The rules are those of knative/serving pkg/autoscaler/scaling and pkg/reconciler/autoscaling/kpa; the names of the
annotations are given beside each setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

SECONDS_BETWEEN_DECISIONS = 2.0
PRECISION = 6  # decimals of an average: sums of floats must not round 7.000000001 up to 8


@dataclass(frozen=True, slots=True)
class ScaleConfig:
    """Settings of one revision, with Knative's defaults. Times in seconds."""

    metric: Literal["concurrency", "rps"] = "concurrency"  # metric
    target: float | None = None  # target; None: 100 for concurrency, 200 for rps
    utilization: float = 0.7  # target-utilization-percentage / 100
    concurrency_limit: int = 0  # containerConcurrency; 0 is unlimited
    window: float = 60.0  # window
    panic_window_fraction: float = 0.1  # panic-window-percentage / 100
    panic_threshold: float = 2.0  # panic-threshold-percentage / 100
    max_up_rate: float = 1000.0
    max_down_rate: float = 2.0
    min: int = 0  # min-scale
    max: int = 0  # max-scale; 0 is unlimited
    initial: int = 1  # initial-scale
    activation: int = 0  # activation-scale; 0 is unset
    zero_grace: float = 30.0  # scale-to-zero-grace-period
    reachable: bool = True  # False: the revision gets no traffic any more; min and initial are ignored

    @property
    def target_per_instance(self) -> float:
        """What is aimed at: the total times the utilisation, never below 0.01."""
        if self.metric == "rps":
            total = 200.0 if self.target is None else self.target
        elif self.concurrency_limit:
            total = min(self.target or self.concurrency_limit, self.concurrency_limit)
        else:
            total = 100.0 if self.target is None else self.target
        return max(0.01, total * self.utilization)

    @property
    def panic_window(self) -> float:
        return max(1.0, self.window * self.panic_window_fraction)


@dataclass(frozen=True, slots=True)
class Buckets:
    """One value per second over a window. The average is over the seconds since the first value, at most the window."""

    seconds: tuple[tuple[int, float], ...] = ()
    first: int | None = None

    def record(self, value: float, *, now: float, window: float) -> Buckets:
        """Add the value of the second `now` lies in; of several in one second the highest counts."""
        second = int(now)
        if not self.seconds or self.seconds[-1][0] + window <= second:
            return Buckets(((second, value),), second)  # nothing for a whole window: the past is forgotten
        kept = self.seconds
        if kept[-1][0] == second:
            value = max(value, kept[-1][1])
            kept = kept[:-1]
        start = 0
        while start < len(kept) and kept[start][0] <= second - window:
            start += 1
        return Buckets((*kept[start:], (second, value)), self.first)

    def average(self, *, now: float, window: float) -> float | None:
        """None without data in the window. A second that nobody reported counts as 0, trailing ones not at all."""
        if not self.seconds or self.first is None:
            return None
        second, last = int(now), self.seconds[-1][0]
        if second - last >= window:
            return None
        total = sum(value for at, value in self.seconds if at > second - window)
        covered = min(last - self.first + 1, window - max(0, second - last))
        return round(total / covered, PRECISION)


@dataclass(frozen=True, slots=True)
class ScaleState:
    """What has to be remembered between two decisions."""

    buckets: Buckets = field(default_factory=Buckets)
    panic_since: float | None = None  # last time the load was over the threshold
    panic_peak: int = 0
    active_since: float | None = None  # when it last left zero
    idle_since: float | None = None
    initial_reached: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen at one moment. `load`: concurrency or requests per second; None if there is nothing to report."""

    ready: int
    load: float | None = None


def adopt(*, ready: int, now: float) -> ScaleState:
    """The state to begin with when `ready` instances are there already (the gateway was restarted).

    With several of them it begins in panic, so that their number does not fall before the window has filled.
    """
    return ScaleState(
        panic_since=now if ready > 1 else None,
        panic_peak=ready if ready > 1 else 0,
        active_since=now if ready else None,
        initial_reached=ready > 0,
    )


def record(config: ScaleConfig, state: ScaleState, load: float, *, now: float) -> ScaleState:
    """Note the load of the current second."""
    return replace(state, buckets=state.buckets.record(load, now=now, window=config.window))


def decide(config: ScaleConfig, state: ScaleState, seen: Observation, *, now: float) -> tuple[ScaleState, int]:
    """The number of instances that should exist. Without data nothing changes."""
    if seen.load is not None:
        state = record(config, state, seen.load, now=now)
    stable = state.buckets.average(now=now, window=config.window)
    # Knative refuses to decide on a panic window without data; ours is empty only when nothing was recorded for long.
    panic = state.buckets.average(now=now, window=config.panic_window)
    if stable is None:
        wanted = seen.ready
    else:
        state, wanted = _wanted(config, state, stable, panic or 0.0, ready=seen.ready, now=now)
    state = _reach_initial(config, state, seen.ready)
    state, wanted = _to_zero(config, state, _at_least(config, state, wanted), now=now)
    return state, _within(config, wanted)


def _wanted(
    config: ScaleConfig, state: ScaleState, stable: float, panic: float, *, ready: int, now: float
) -> tuple[ScaleState, int]:
    """What load and panic mode ask for, before any bound of the revision."""
    counted = max(1, ready)
    target = config.target_per_instance
    over = math.ceil(panic / target) / counted >= config.panic_threshold
    upper = math.ceil(config.max_up_rate * counted)
    lower = math.floor(counted / config.max_down_rate) if config.reachable else 0
    want_stable, want_panic = (
        _activated(config, min(max(math.ceil(load / target), lower), upper)) for load in (stable, panic)
    )
    if over:
        state = replace(state, panic_since=now)
    elif state.panic_since is not None and now - state.panic_since > config.window:
        state = replace(state, panic_since=None, panic_peak=0)
    if state.panic_since is None:
        return state, want_stable
    peak = max(state.panic_peak, want_stable, want_panic)  # in panic it only ever rises
    return replace(state, panic_peak=peak), peak


def _activated(config: ScaleConfig, wanted: int) -> int:
    return max(wanted, config.activation) if wanted > 0 else 0


def _reach_initial(config: ScaleConfig, state: ScaleState, ready: int) -> ScaleState:
    if state.initial_reached or ready < config.initial:
        return state
    return replace(state, initial_reached=True)


def _at_least(config: ScaleConfig, state: ScaleState, wanted: int) -> int:
    """The lower bounds: what may come down to zero is decided after them."""
    if not config.reachable:
        return wanted
    initial = config.initial if wanted and not state.initial_reached else 0
    return max(wanted, config.min, initial)


def _to_zero(config: ScaleConfig, state: ScaleState, wanted: int, *, now: float) -> tuple[ScaleState, int]:
    """Zero is reached after a whole window of activity and the grace period; one instance is kept meanwhile."""
    if wanted > 0:
        active = now if state.active_since is None else state.active_since
        return replace(state, active_since=active, idle_since=None), wanted
    if state.active_since is None:
        return state, 0
    if not config.reachable:
        return replace(state, active_since=None, idle_since=None), 0
    if now - state.active_since < config.window:
        return state, 1
    idle = now if state.idle_since is None else state.idle_since
    if now - idle < config.zero_grace:
        return replace(state, idle_since=idle), 1
    return replace(state, active_since=None, idle_since=None), 0


def _within(config: ScaleConfig, wanted: int) -> int:
    return min(wanted, config.max) if config.max else wanted
