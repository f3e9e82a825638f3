"""Counters of the four golden signals as plain attributes: well under a microsecond a request. Text on demand."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds


class Signals:
    """Latency, traffic and errors of one thing that answers; saturation is read from elsewhere when it is asked for."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.statuses: dict[int, int] = {}

    def answered(self, status: int, seconds: float) -> None:
        """Count one call; status 0 is one that was cut before it had a status."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.statuses[status] = self.statuses.get(status, 0) + 1


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labels(values: Mapping[str, object]) -> str:
    return "{" + ",".join(f'{name}="{escape(str(value))}"' for name, value in values.items()) + "}" if values else ""


class Page:
    """Prometheus' text format, a family at a time."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, text: str, samples: Iterable[tuple[Mapping[str, object], float]]) -> None:
        self._lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
        self._lines += (f"{name}{labels(values)} {number:g}" for values, number in samples)

    def signals(self, prefix: str, text: str, measured: Iterable[tuple[Mapping[str, object], Signals]]) -> None:
        """`PREFIX_requests_total` by status and the histogram `PREFIX_request_seconds`."""
        measured = list(measured)
        self.family(
            f"{prefix}_requests_total",
            "counter",
            f"Requests answered by {text}; status 0: cut before an answer.",
            (
                ({**values, "status": status}, count)
                for values, signals in measured
                for status, count in sorted(signals.statuses.items())
            ),
        )
        name = f"{prefix}_request_seconds"
        self._lines += (f"# HELP {name} From a request's head to the end of its answer.", f"# TYPE {name} histogram")
        for values, signals in measured:
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), signals.buckets, strict=True):
                total += count
                self._lines.append(f"{name}_bucket{labels({**values, 'le': bound})} {total}")
            self._lines.append(f"{name}_sum{labels(values)} {signals.seconds:.6f}")
            self._lines.append(f"{name}_count{labels(values)} {total}")

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"
