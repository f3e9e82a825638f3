"""The autoscaler against the numbers of Knative's (pkg/autoscaler/scaling, kpa/scaler, config/core/configmaps)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from local.autoscaler import Buckets, Observation, ScaleConfig, ScaleState, adopt, decide, record

ONE_EACH = {"target": 1.0, "utilization": 1.0}  # one instance per concurrent call


@dataclass
class Scaler:
    """A revision whose instances come at once: what is decided is what is ready at the next decision."""

    config: ScaleConfig = field(default_factory=lambda: ScaleConfig(**ONE_EACH))  # type: ignore[arg-type]
    state: ScaleState = field(default_factory=ScaleState)
    ready: int = 0
    now: float = 1000.0

    def poke(self, load: float = 1.0) -> int:
        return self._decide(load)

    def run(self, seconds: int, *, load: float) -> int:
        """A value per second, a decision every two."""
        for _ in range(seconds):
            self.now += 1
            self.state = record(self.config, self.state, load, now=self.now)
            if int(self.now) % 2 == 0:
                self._decide(None)
        return self.ready

    def _decide(self, load: float | None) -> int:
        seen = Observation(ready=self.ready, load=load)
        self.state, self.ready = decide(self.config, self.state, seen, now=self.now)
        return self.ready


def scaler(*, ready: int = 0, **config: object) -> Scaler:
    made = Scaler(ScaleConfig(**{**ONE_EACH, **config}), ready=ready)  # type: ignore[arg-type]
    made.state = adopt(ready=min(ready, 1), now=made.now)
    return made


# what is aimed at


@pytest.mark.parametrize(
    ("config", "target"),
    [
        ({}, 70.0),
        ({"metric": "rps"}, 140.0),
        ({"concurrency_limit": 10}, 7.0),
        ({"concurrency_limit": 10, "target": 5.0}, 3.5),
        ({"concurrency_limit": 10, "target": 50.0}, 7.0),
        ({"target": 100.0, "utilization": 1.0}, 100.0),
        ({"target": 0.01, "utilization": 0.1}, 0.01),
    ],
)
def test_the_target_is_the_total_times_the_utilization(config: dict[str, object], target: float) -> None:
    assert ScaleConfig(**config).target_per_instance == pytest.approx(target)  # type: ignore[arg-type]


def test_the_defaults_are_knatives() -> None:
    config = ScaleConfig()
    assert (config.window, config.panic_window, config.panic_threshold) == (60.0, 6.0, 2.0)
    assert (config.max_up_rate, config.max_down_rate, config.zero_grace) == (1000.0, 2.0, 30.0)
    assert (config.min, config.max, config.initial, config.activation) == (0, 0, 1, 0)


# windows


def test_of_several_values_in_a_second_the_highest_counts() -> None:
    buckets = Buckets().record(1, now=5.1, window=60).record(9, now=5.5, window=60).record(3, now=5.9, window=60)
    assert buckets.average(now=5.9, window=60) == 9


def test_the_average_is_over_the_seconds_since_the_first_value_at_most_the_window() -> None:
    buckets = Buckets()
    for second in range(4):
        buckets = buckets.record(second, now=second, window=60)
    assert buckets.average(now=3, window=60) == 1.5
    assert buckets.average(now=3, window=2) == 2.5


def test_a_second_that_nobody_reported_counts_as_nothing() -> None:
    buckets = Buckets().record(6, now=0, window=60).record(6, now=2, window=60)
    assert buckets.average(now=2, window=60) == 4


def test_values_leave_the_window_and_after_a_silent_window_there_are_none() -> None:
    buckets = Buckets()
    for second in range(10):
        buckets = buckets.record(100 if second < 4 else 2, now=second, window=6)
    assert buckets.average(now=9, window=6) == 2
    assert buckets.average(now=15, window=6) is None
    assert Buckets().average(now=0, window=6) is None


def test_a_sum_of_floats_is_not_rounded_up_to_one_more_instance() -> None:
    state, config = ScaleState(), ScaleConfig(**ONE_EACH)  # type: ignore[arg-type]
    for second in range(10):
        state = record(config, state, 0.1 * 70, now=second)
    assert decide(config, state, Observation(ready=7), now=9)[1] == 7


# what is wanted


def test_a_call_to_a_revision_at_zero_starts_one_instance_at_once() -> None:
    assert scaler().poke() == 1


def test_many_calls_at_once_start_as_many_instances_as_they_need() -> None:
    assert Scaler(ScaleConfig()).poke(load=500) == 8  # ceil(500 / 70)


def test_steady_load_gives_the_average_by_the_target_rounded_up() -> None:
    assert scaler(ready=1).run(60, load=4.2) == 5


def test_without_data_nothing_changes() -> None:
    assert decide(ScaleConfig(), ScaleState(), Observation(ready=3), now=0.0)[1] == 3


def test_growth_is_at_most_a_thousandfold() -> None:
    assert scaler(ready=1, max_up_rate=3.0).run(2, load=1000) == 3


def test_it_shrinks_by_half_at_most() -> None:
    shrinking = scaler(ready=10)
    assert shrinking.run(2, load=1) == 5
    assert shrinking.run(2, load=1) == 2
    assert shrinking.run(2, load=1) == 1


def test_a_revision_without_traffic_may_go_at_once() -> None:
    gone = scaler(ready=10, reachable=False, min=3)
    assert gone.run(2, load=0) == 0


def test_requests_per_second_have_a_target_of_their_own() -> None:
    assert Scaler(ScaleConfig(metric="rps"), state=adopt(ready=1, now=1000.0), ready=1).run(60, load=300) == 3


# panic


@pytest.mark.parametrize(("load", "panics", "wanted"), [(3, False, 3), (4, True, 4)])
def test_twice_the_load_of_what_is_ready_is_panic(load: float, panics: bool, wanted: int) -> None:
    config, state = ScaleConfig(**ONE_EACH), adopt(ready=1, now=0.0)  # type: ignore[arg-type]
    for second in range(66):
        state = record(config, state, 2 if second < 60 else load, now=second)
    state, instances = decide(config, state, Observation(ready=2), now=65)
    assert (state.panic_since is not None, instances) == (panics, wanted)


def test_in_panic_the_short_window_decides() -> None:
    surprised = scaler(ready=1)
    surprised.run(60, load=1)
    assert surprised.run(6, load=20) == 20


def test_in_panic_it_never_shrinks() -> None:
    panicking = scaler(ready=1)
    panicking.run(60, load=1)
    panicking.run(6, load=20)
    assert panicking.run(50, load=1) == 20


def test_panic_ends_when_a_whole_window_was_calm() -> None:
    panicking = scaler(ready=1)
    panicking.run(60, load=1)
    panicking.run(6, load=20)
    assert panicking.run(64, load=1) < 20
    assert panicking.state.panic_since is None


def test_load_over_the_threshold_renews_the_panic() -> None:
    panicking = scaler(ready=1, max=2)  # it can never have what it needs
    panicking.run(60, load=1)
    panicking.run(120, load=20)
    assert panicking.state.panic_since == panicking.now


def test_after_a_restart_with_several_instances_their_number_does_not_fall() -> None:
    config = ScaleConfig(**ONE_EACH)  # type: ignore[arg-type]
    restarted = Scaler(config, state=adopt(ready=8, now=1000.0), ready=8)
    assert restarted.run(58, load=1) == 8
    assert restarted.run(20, load=1) < 8


# bounds


def test_the_activation_scale_is_what_it_starts_with() -> None:
    assert scaler(activation=3).poke() == 3
    active = scaler(ready=3, activation=3)
    assert active.run(60, load=1) == 3
    assert scaler(ready=1, activation=3).run(150, load=0) == 0


def test_the_initial_scale_is_kept_until_it_was_reached() -> None:
    new = scaler(initial=3)
    assert new.poke() == 3
    assert new.run(60, load=1) < 3


def test_minimum_and_maximum_hold_whatever_the_load() -> None:
    assert scaler(ready=2, min=2).run(300, load=0) == 2
    assert scaler(ready=1, max=4).run(60, load=50) == 4


# zero


def test_it_goes_to_zero_after_a_window_and_the_grace_period() -> None:
    idle = scaler(ready=1)
    idle.run(60, load=1)
    assert idle.run(60, load=0) == 1  # the window still remembers the load
    assert idle.run(28, load=0) == 1  # the grace period
    assert idle.run(6, load=0) == 0


def test_it_stays_for_a_window_after_it_was_activated() -> None:
    activated = scaler(zero_grace=0.0)
    activated.poke(load=0.0)
    activated.ready = 1
    activated.state = adopt(ready=1, now=activated.now)
    assert activated.run(58, load=0) == 1
    assert activated.run(4, load=0) == 0


def test_a_call_during_the_grace_period_begins_it_anew() -> None:
    idle = scaler(ready=1)
    idle.run(60, load=1)
    idle.run(80, load=0)
    idle.run(2, load=1)
    assert idle.run(80, load=0) == 1
    assert idle.run(20, load=0) == 0
