"""The platform as a benchmark uses it: an installation of its own, driven by the CLI and over HTTP.

Its home is kept below .bench, so that a user's own data are left alone and what was prepared is there the next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.bench.load import Call
from tests.fakes.environments import process_environment

CLI = Path(sys.executable).with_name("orchestrator")
AT_ZERO_TIMEOUT = 240.0  # seconds; Knative's window and grace period are 90
SERVING = ("ready", "idle")


class CommandFailed(Exception):  # noqa: N818 - it is what happened
    """`orchestrator …` ended with an error; says all that it printed."""


class Cli(Protocol):
    """Runs `orchestrator ARGUMENTS --output json` and returns what it printed. Raises `CommandFailed`."""

    def __call__(self, *arguments: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class AgentFolder:
    """An agent to deploy: its name and its files by path."""

    name: str
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in self.files.items():
            (folder / path).write_text(text)
        return folder


@dataclass(slots=True)
class Installation:
    """A home folder, and the platform that may be running on it. `settings` are ORCHESTRATOR_* variables for it."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """A user's variables, without what would change the platform or slow its start."""
        own = {name: value for name, value in process_environment().items() if not name.startswith("ORCHESTRATOR_")}
        return {**own, **self.settings, "ORCHESTRATOR_HOME": str(self.home)}

    def cli(self, *arguments: str) -> Any:
        done = subprocess.run(
            [str(CLI), *arguments, "--output", "json"],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(f"orchestrator {' '.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def up(self) -> bool:
        """Start it, or restart it if program or settings have changed; says whether it did."""
        self.home.mkdir(parents=True, exist_ok=True)
        kept = self.home / "bench-settings.json"
        wanted = json.dumps(dict(self.settings), sort_keys=True)
        if not kept.exists() or kept.read_text() != wanted:
            self.down()
        kept.write_text(wanted)
        return bool(self.cli("up", "--port", "0", "--upgrade")["changed"])

    def down(self) -> None:
        self.cli("down")

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return int(self.cli("status")["pid"])

    def call(self, agent: str, value: object, **headers: str) -> Call:
        """A call of an agent, as any HTTP client would make it."""
        address = (self.home / "address").read_text().strip()
        token = (self.home / "owner-token").read_text().strip()
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return Call(
            f"{address}/agents/{agent}", json.dumps(value).encode(), {"authorization": f"Bearer {token}", **named}
        )


def deploy_missing(cli: Cli, agents: Sequence[AgentFolder], folder: Path, *, at_once: int = 2) -> list[str]:
    """Deploy those agents that do not serve yet as they are given; returns their names.

    What was deployed is noted beside each folder, so that agents that are there cost one look at the list.
    """
    serving = {agent["name"] for agent in cli("ls")["items"] if agent["state"] in SERVING}
    missing = [agent for agent in agents if agent.name not in serving or _noted(folder, agent) != agent.digest]

    def deploy(agent: AgentFolder) -> str:
        cli("deploy", str(agent.write(folder / agent.name)))
        (folder / f"{agent.name}.digest").write_text(agent.digest)
        return agent.name

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(deploy, missing))


def _noted(folder: Path, agent: AgentFolder) -> str:
    try:
        return (folder / f"{agent.name}.digest").read_text()
    except FileNotFoundError:
        return ""


def wait_for_zero(
    cli: Cli,
    names: Iterable[str],
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Until each of these agents has no instance. Raises `TimeoutError` naming those that keep one."""
    wanted = frozenset(names)
    deadline = clock() + AT_ZERO_TIMEOUT
    while True:
        states = {agent["name"]: agent["state"] for agent in cli("ls")["items"]}
        awake = sorted(name for name in wanted if states.get(name) != "idle")
        if not awake:
            return
        if clock() > deadline:
            raise TimeoutError(f"{len(awake)} agents do not reach zero, such as {awake[0]} ({states.get(awake[0])})")
        pause(0.5)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of an installation: resident and proportional memory in MiB, CPU seconds so far, zygotes."""

    rss: float
    pss: float
    cpu: float
    processes: int
    zygotes: int


def usage(supervisor: int, proc: Path = Path("/proc")) -> Usage:
    """What the supervisor and all its descendants use. Proportional: shared pages are counted once in all."""
    members = _descendants(supervisor, proc)
    rss = pss = 0
    cpu = 0.0
    zygotes = 0
    seen = 0
    for pid in members:
        try:
            status = (proc / str(pid) / "smaps_rollup").read_text()
            stat = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            command = (proc / str(pid) / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        values = {line.split(":")[0]: line.split()[1] for line in status.splitlines()[1:]}
        rss += int(values["Rss"])
        pss += int(values["Pss"])
        cpu += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        zygotes += b"orchestrator_runtime.zygote" in command and _parent_is_no_zygote(stat, proc)
        seen += 1
    return Usage(rss / 1024, pss / 1024, cpu, seen, zygotes)


def _parent_is_no_zygote(stat: Sequence[str], proc: Path) -> bool:
    """Instances keep their zygote's command line."""
    try:
        return b"orchestrator_runtime.zygote" not in (proc / stat[1] / "cmdline").read_bytes()
    except OSError:
        return False


def _descendants(root: int, proc: Path) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found
