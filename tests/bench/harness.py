"""What every benchmark is made of: samples in, medians and percentiles out, a table for people, one line for programs.

A benchmark is a module with `NAME`, `installations(workspace)`, its platforms, `prepare(workspace)`, which brings about
what it needs beforehand and changes nothing where that is there already, and `measure(workspace)`, which returns a
`Result`. `python -m tests.bench` runs them. No figure is ever asserted: what was reached stands in the table beside
what is to be reached.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.fakes.environments import ROOT

BENCH = ROOT / ".bench"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach: at most, or at least, `bound`."""

    bound: float
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.bound)}"


def at_most(bound: float) -> Target:
    return Target(bound)


def at_least(bound: float) -> Target:
    return Target(bound, at_least=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what we measured, and what the baseline did in the same rounds, if there is one."""

    what: str
    unit: str
    ours: float
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`samples`: raw values by series. `figures`: what `targets` of the same keys are about. `notes`: for people."""

    samples: Mapping[str, Sequence[float]]
    rows: Sequence[Row]
    figures: Mapping[str, float]
    targets: Mapping[str, Target]
    notes: Sequence[str] = ()

    @property
    def count(self) -> int:
        return sum(len(series) for series in self.samples.values())


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a benchmark keeps what it prepared, and its own installation of the platform. Ignored by git."""

    name: str
    root: Path = field(default=BENCH)

    @property
    def folder(self) -> Path:
        folder = self.root / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (self.root / ".gitignore").write_text("*\n")
        return folder


class Platform(Protocol):
    """An installation, which may be running."""

    def down(self) -> None: ...


class Benchmark(Protocol):
    """The module of a benchmark."""

    NAME: str
    TARGETS: Mapping[str, Target]

    def installations(self, workspace: Workspace) -> Sequence[Platform]: ...

    def prepare(self, workspace: Workspace) -> None: ...

    def measure(self, workspace: Workspace) -> Result: ...


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all values do not exceed, interpolated between neighbours. Raises on no values."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def median_of_rounds(rounds: Sequence[Sequence[float]], percent: float) -> float:
    """A percentile of each round, and of those the median: one disturbed round does not decide."""
    return median([percentile(values, percent) for values in rounds])


def number(value: float) -> str:
    """Three significant digits, and no more precision than a measurement has."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    digits = max(0, 3 - len(str(int(abs(value)))))
    return f"{value:.{digits or 0}f}"


def table(name: str, result: Result) -> str:
    """What was measured beside its baseline, then the figures beside what they are to reach."""
    measured = [
        (row.what, number(row.ours), "–" if row.baseline is None else number(row.baseline), row.unit)
        for row in result.rows
    ]
    reached = [
        (key, number(value), str(target), "reached" if target.reached(value) else "not reached")
        for key, value, target in ((key, result.figures[key], target) for key, target in result.targets.items())
    ]
    blocks = [_aligned((name, "ours", "baseline", "unit"), measured), _aligned(("figure", "is", "target", ""), reached)]
    return "\n\n".join([*blocks, *result.notes])


def _aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]

    def shown(line: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        last = line[-1].ljust(widths[-1])
        return "  ".join([first.strip().ljust(widths[0]), *others[:-1], last]).rstrip()

    return "\n".join([shown(head), "  ".join("-" * width for width in widths), *map(shown, lines)])


def json_line(name: str, result: Result, *, commit: str) -> str:
    """The last line of a benchmark's output."""
    figures = {key: round(value, 4) for key, value in result.figures.items()}
    return json.dumps({"name": name, "commit": commit, "samples": result.count, "figures": figures})


def write_samples(workspace: Workspace, result: Result, *, commit: str) -> Path:
    """The raw values, beside what the benchmark prepared; the last measurement replaces the one before."""
    path = workspace.folder / "samples.json"
    document = {"name": workspace.name, "commit": commit, "figures": result.figures, "samples": result.samples}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def commit() -> str:
    """The commit that is measured, marked if the files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude", "*", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def run(
    benchmark: Benchmark,
    *,
    others: Iterable[Benchmark],
    only_prepare: bool,
    say: Callable[[str], object],
    root: Path = BENCH,
) -> None:
    """Prepare, and unless only that is wanted measure and print, line by line; the JSON object comes last.

    The platforms of other benchmarks are stopped first, so that they do not disturb; its own are left running by a
    preparation, as what was warmed or has reached zero is part of it, and stopped after a measurement.
    """
    for other in others:
        _stop(other, root)
    workspace = Workspace(benchmark.NAME, root)
    benchmark.prepare(workspace)
    if only_prepare:
        return
    try:
        result = benchmark.measure(workspace)
    finally:
        _stop(benchmark, root)
    at = commit()
    path = write_samples(workspace, result, commit=at)
    say(table(benchmark.NAME, result))
    say(f"\n{result.count} raw samples are in {path}")
    say(json_line(benchmark.NAME, result, commit=at))


def _stop(benchmark: Benchmark, root: Path) -> None:
    if (root / benchmark.NAME).exists():
        for platform in benchmark.installations(Workspace(benchmark.NAME, root)):
            platform.down()
