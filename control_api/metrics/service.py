"""The golden signals of the API and of runs, kept here; those of gateway and agents are asked of the gateway.

Runs are counted when their changes are committed, never by reading the database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from control_api.journal.ledger import Ended
from orchestrator_runtime.contract.errors import Problem

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RUN_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """`gateway()` answers its part in Prometheus' text format, or raises `Problem` while there is none.

    `waiting()`: how many changes wait for the database, which is what a server is short of first.
    """

    def __init__(self, *, gateway: Callable[[], Awaitable[str]], waiting: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of its own per series, for a protocol that we do not speak
        self._gateway = gateway
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "orchestrator_server_requests",
            "Requests that the server answered, by route.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "orchestrator_server_request_seconds",
            "From a request's head to the end of its answer.",
            ("method", "route"),
            registry=self._registry,
            buckets=SECONDS,
        )
        self._runs = Counter(
            "orchestrator_runs",
            "Runs that ended, by how they did.",
            ("agent", "state"),
            registry=self._registry,
        )
        self._run_seconds = Histogram(
            "orchestrator_run_seconds",
            "From a run's admission to its end.",
            ("agent",),
            registry=self._registry,
            buckets=RUN_SECONDS,
        )
        self._steps = Counter(
            "orchestrator_steps",
            "Steps that ended, by kind and how they did.",
            ("agent", "kind", "state"),
            registry=self._registry,
        )
        self._step_seconds = Histogram(
            "orchestrator_step_seconds",
            "From a step's start to its end.",
            ("agent", "kind"),
            registry=self._registry,
            buckets=RUN_SECONDS,
        )
        self._tokens = Counter(
            "orchestrator_model_tokens",
            "Tokens that models were given (input) and gave (output).",
            ("agent", "direction"),
            registry=self._registry,
        )
        Gauge(
            "orchestrator_database_waiting", "Changes that wait for the next commit.", registry=self._registry
        ).set_function(waiting)
        # kept, as every call of an agent comes by and a look-up costs more than to count
        self._of_runs = cache(lambda agent, state: (self._runs.labels(agent, state), self._run_seconds.labels(agent)))
        self._of_steps = cache(self._steps.labels)
        self._of_step_seconds = cache(self._step_seconds.labels)
        self._of_tokens = cache(self._tokens.labels)
        self._gateway_up = Gauge("orchestrator_gateway_up", "1 while the gateway answers.", registry=self._registry)

    def measure(self, method: str, route: str, status: int, seconds: float) -> None:
        """`border.Measure`."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def count_end(self, ended: Ended) -> None:
        """A run or a step has ended."""
        if ended.what == "run":
            count, seconds = self._of_runs(ended.agent, ended.state)
            count.inc()
            seconds.observe(ended.seconds or 0.0)
            return
        self._of_steps(ended.agent, ended.what, ended.state).inc()
        if ended.seconds is not None:
            self._of_step_seconds(ended.agent, ended.what).observe(ended.seconds)
        for direction, tokens in (("input", ended.input_tokens), ("output", ended.output_tokens)):
            if tokens:
                self._of_tokens(ended.agent, direction).inc(tokens)

    async def page(self) -> str:
        """Everything in Prometheus' text format."""
        try:
            gateway = await self._gateway()
        except Problem:  # it is being started again: its series are missing for a moment, and this says so
            gateway = ""
        self._gateway_up.set(bool(gateway))
        return generate_latest(self._registry).decode() + gateway
