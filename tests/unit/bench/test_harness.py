"""Statistics, the table, the line for programs, and what `run` does in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.harness import (
    Result,
    Row,
    Target,
    Workspace,
    at_least,
    at_most,
    json_line,
    median_of_rounds,
    number,
    percentile,
    run,
    table,
)

RESULT = Result(
    samples={"ours_ms": [1.0, 2.0, 3.0], "theirs_ms": [20.0]},
    rows=[Row("a call", "ms", 2.0, 20.0), Row("memory", "MiB", 123.456)],
    figures={"p95_ms": 2.9, "speedup": 7.123456},
    targets={"p95_ms": at_most(3), "speedup": at_least(10)},
    notes=["A note."],
)


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0, 2.0], 95) == pytest.approx(1.95)
    assert percentile([7.0], 95) == 7.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_is_within_the_values(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert min(values) <= found or found == pytest.approx(min(values))
    assert found <= max(values) or found == pytest.approx(max(values))


def test_one_disturbed_round_does_not_decide() -> None:
    assert median_of_rounds([[1.0, 1.0], [2.0, 2.0], [900.0, 1000.0]], 99) == 2.0


def test_a_bound_is_reached_from_its_own_side() -> None:
    assert at_most(5).reached(5)
    assert not at_most(5).reached(5.1)
    assert at_least(5).reached(5)
    assert not at_least(5).reached(4.9)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1000.0, "1000"), (0.12345, "0.12"), (12.345, "12.3"), (12345.6, "12346")]
)
def test_numbers_are_shown_as_precisely_as_they_were_measured(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_table_shows_ours_beside_the_baseline_and_figures_beside_targets() -> None:
    lines = [line.split() for line in table("example", RESULT).splitlines()]
    assert ["a", "call", "2", "20", "ms"] in lines
    assert ["memory", "123", "–", "MiB"] in lines
    assert ["p95_ms", "2.90", "≤", "3", "reached"] in lines
    assert ["speedup", "7.12", "≥", "10", "not", "reached"] in lines
    assert lines[-1] == ["A", "note."]


def test_the_json_object_is_one_line_with_name_commit_samples_and_figures() -> None:
    line = json_line("example", RESULT, commit="c0ffee")
    assert "\n" not in line
    assert json.loads(line) == {
        "name": "example",
        "commit": "c0ffee",
        "samples": 4,
        "figures": {"p95_ms": 2.9, "speedup": 7.1235},
    }


@dataclass
class FakePlatform:
    name: str
    log: list[str]

    def down(self) -> None:
        self.log.append(f"down {self.name}")


@dataclass
class FakeBenchmark:
    NAME: str
    log: list[str]
    error: Exception | None = None
    TARGETS: Mapping[str, Target] = field(default_factory=dict)

    def installations(self, workspace: Workspace) -> list[FakePlatform]:
        return [FakePlatform(self.NAME, self.log)]

    def prepare(self, workspace: Workspace) -> None:
        workspace.folder.mkdir(exist_ok=True)
        self.log.append(f"prepare {self.NAME}")

    def measure(self, workspace: Workspace) -> Result:
        self.log.append(f"measure {self.NAME}")
        if self.error is not None:
            raise self.error
        return RESULT


def test_a_preparation_leaves_its_platform_running_and_stops_the_others(tmp_path: Path) -> None:
    log: list[str] = []
    one, two, never = (FakeBenchmark(name, log) for name in ("one", "two", "never"))
    run(one, others=[two, never], only_prepare=True, say=log.append, root=tmp_path)
    run(two, others=[one, never], only_prepare=True, say=log.append, root=tmp_path)
    assert log == ["prepare one", "down one", "prepare two"]


def test_the_last_line_of_a_measurement_is_the_object_and_the_samples_are_beside_it(tmp_path: Path) -> None:
    log: list[str] = []
    run(FakeBenchmark("one", log), others=[], only_prepare=False, say=log.append, root=tmp_path)
    assert log[:3] == ["prepare one", "measure one", "down one"]
    said = json.loads(log[-1])
    kept = json.loads((tmp_path / "one" / "samples.json").read_text())
    assert kept["samples"] == RESULT.samples
    assert (kept["name"], kept["commit"]) == (said["name"], said["commit"])


def test_a_measurement_that_fails_stops_its_platform(tmp_path: Path) -> None:
    log: list[str] = []
    failing = FakeBenchmark("one", log, error=RuntimeError("no answer"))
    with pytest.raises(RuntimeError, match="no answer"):
        run(failing, others=[], only_prepare=False, say=log.append, root=tmp_path)
    assert log[-1] == "down one"


def test_what_is_kept_is_ignored_by_git(tmp_path: Path) -> None:
    assert Workspace("one", tmp_path / "bench").folder.is_dir()
    assert (tmp_path / "bench" / ".gitignore").read_text() == "*\n"
