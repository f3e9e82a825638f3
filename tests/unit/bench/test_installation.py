"""Preparation is idempotent; what is used is summed over a tree of processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.bench.installation import AT_ZERO_TIMEOUT, AgentFolder, deploy_missing, usage, wait_for_zero


@dataclass
class FakeCli:
    """`ls` and `deploy` of a platform where a deployed agent serves at once, and goes to zero after some looks."""

    agents: dict[str, str] = field(default_factory=dict)
    deployed: list[str] = field(default_factory=list)
    looks_until_zero: int = 0

    def __call__(self, *arguments: str) -> Any:
        match arguments:
            case ("ls",):
                if self.looks_until_zero == 0:
                    self.agents = dict.fromkeys(self.agents, "idle")
                self.looks_until_zero -= 1
                return {"items": [{"name": name, "state": state} for name, state in self.agents.items()]}
            case ("deploy", folder):
                name = Path(folder).name
                assert (Path(folder) / "agent.yaml").is_file()
                self.deployed.append(name)
                self.agents[name] = "ready"
                return {"state": "ready"}
        raise AssertionError(arguments)


def folder(name: str, code: str = "") -> AgentFolder:
    return AgentFolder(name, {"agent.yaml": f"name: {name}", "agent.py": code})


def test_agents_that_serve_as_they_are_given_are_not_deployed_again(tmp_path: Path) -> None:
    cli = FakeCli()
    assert deploy_missing(cli, [folder("one"), folder("two")], tmp_path, at_once=1) == ["one", "two"]
    assert deploy_missing(cli, [folder("one"), folder("two")], tmp_path, at_once=1) == []


def test_a_changed_agent_and_one_that_the_platform_lost_are_deployed_again(tmp_path: Path) -> None:
    cli = FakeCli()
    deploy_missing(cli, [folder("one"), folder("two"), folder("three")], tmp_path, at_once=1)
    del cli.agents["two"]
    assert deploy_missing(cli, [folder("one", "x = 1"), folder("two"), folder("three")], tmp_path, at_once=1) == [
        "one",
        "two",
    ]


def test_zero_is_waited_for(tmp_path: Path) -> None:
    cli = FakeCli(looks_until_zero=3, agents={"one": "ready", "other": "ready"})
    pauses: list[float] = []
    wait_for_zero(cli, ["one"], clock=lambda: 0.0, pause=pauses.append)
    assert len(pauses) == 3


def test_who_never_reaches_zero_is_named() -> None:
    cli = FakeCli(looks_until_zero=-1, agents={"one": "ready"})
    times = iter((0.0, 1.0, AT_ZERO_TIMEOUT + 1))
    with pytest.raises(TimeoutError, match=r"one \(ready\)"):
        wait_for_zero(cli, ["one"], clock=lambda: next(times), pause=lambda _: None)


def process(proc: Path, pid: int, *, parent: int, rss: int, pss: int, ticks: int, command: str) -> None:
    """A process as the kernel shows it; memory in KiB."""
    folder = proc / str(pid)
    folder.mkdir()
    fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 8]
    (folder / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}")
    (folder / "cmdline").write_bytes(command.encode().replace(b" ", b"\0"))
    (folder / "smaps_rollup").write_text(f"0-1 ---p 0 00:00 0 [rollup]\nRss: {rss} kB\nPss: {pss} kB\n")


def test_usage_is_that_of_the_supervisor_and_all_below_it(tmp_path: Path) -> None:
    zygote = "python -m orchestrator_runtime.zygote plain"
    process(tmp_path, 1, parent=0, rss=9999, pss=9999, ticks=9999, command="init")
    process(tmp_path, 10, parent=1, rss=1024, pss=512, ticks=100, command="supervisor")
    process(tmp_path, 11, parent=10, rss=2048, pss=1024, ticks=200, command=zygote)
    process(tmp_path, 12, parent=11, rss=2048, pss=512, ticks=0, command=zygote)
    process(tmp_path, 20, parent=1, rss=9999, pss=9999, ticks=9999, command=zygote)
    (tmp_path / "self").mkdir()

    found = usage(10, tmp_path)

    assert (found.rss, found.pss) == (5.0, 2.0)
    assert found.cpu == pytest.approx(3.0)
    assert (found.processes, found.zygotes) == (3, 1)
