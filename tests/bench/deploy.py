"""How long a change takes: saved code to a new revision that answers; nothing changed; new packages.

The baseline of a change is a fresh process of the changed agent up to its answer; that of a first deploy is `uv`
making an environment of the same packages from the same kind of cache, bytecode included.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from pathlib import Path

from tests.bench import agents, servers
from tests.bench.harness import Result, Row, Target, Workspace, at_most, median, percentile
from tests.bench.installation import AgentFolder, Installation, deploy_missing
from tests.bench.load import call_once
from tests.fakes.environments import ROOT, process_environment

NAME = "deploy"
CHANGES = 20
UNCHANGED = 10
FIRST = {"langgraph": 3, "crewai": 3}
TARGETS: dict[str, Target] = {
    "p95_s": at_most(1),
    "unchanged_s": at_most(0.2),
    "first_s_langgraph": at_most(5),
    "first_s_crewai": at_most(20),
}
CHANGING = "changing"
# Small packages without dependencies: each choice of them is a set of dependencies that was never built before.
SMALL = (
    "blinker",
    "colorama",
    "iniconfig",
    "itsdangerous",
    "pathspec",
    "ply",
    "pluggy",
    "toml",
    "webencodings",
    "zipp",
)


def installation(workspace: Workspace) -> Installation:
    return Installation(workspace.folder / "home")


def installations(workspace: Workspace) -> list[Installation]:
    return [installation(workspace)]


def prepare(workspace: Workspace) -> None:
    platform = installation(workspace)
    platform.up()
    every = [agents.agent_depending_on(f"every-{kind}", kind, *SMALL) for kind in FIRST]  # fills the package cache
    deploy_missing(platform.cli, [changed(0), *every], workspace.folder / "agents")
    for kind in FIRST:  # fills uv's own cache, for the baseline
        servers.python_of(kind)


def changed(number: int) -> AgentFolder:
    """The agent after the `number`th change of its code."""
    agent = agents.agent(CHANGING, "langgraph")
    code = agent.files["agent.py"].replace("hello", f"hello-{number}")
    return AgentFolder(agent.name, {**agent.files, "agent.py": code})


def measure(workspace: Workspace) -> Result:
    platform = installation(workspace)
    folder = workspace.folder / "agents" / CHANGING
    samples: dict[str, list[float]] = {"change_s": [], "process_s": [], "unchanged_s": []}
    for number in range(1, CHANGES + 1):
        samples["change_s"].append(_change(platform, folder, unseen=time.time_ns()))
        if number % (CHANGES // UNCHANGED) == 0:
            samples["unchanged_s"].append(_unchanged(platform, folder))
            samples["process_s"].append(servers.fresh_process("langgraph", folder, model_url=""))
    for kind, count in FIRST.items():
        samples[f"uv_s_{kind}"] = [_uv_environment(workspace, kind)]  # once: it takes long
        samples[f"first_s_{kind}"] = [_first(workspace, platform, kind) for _ in range(count)]
    rows = [
        Row("code change to answer, median", "s", median(samples["change_s"]), median(samples["process_s"])),
        Row("code change to answer, 95th percentile", "s", percentile(samples["change_s"], 95)),
        Row("nothing changed, median", "s", median(samples["unchanged_s"])),
        *(
            Row(
                f"first deploy, {kind}, median",
                "s",
                median(samples[f"first_s_{kind}"]),
                median(samples[f"uv_s_{kind}"]),
            )
            for kind in FIRST
        ),
    ]
    figures = {
        "p95_s": percentile(samples["change_s"], 95),
        "unchanged_s": median(samples["unchanged_s"]),
        **{f"first_s_{kind}": median(samples[f"first_s_{kind}"]) for kind in FIRST},
    }
    return Result(samples, rows, figures, TARGETS)


def _change(platform: Installation, folder: Path, *, unseen: int) -> float:
    """Seconds from a save of the code to an answer of the new code, by way of `orchestrator deploy`."""
    code = changed(unseen).files["agent.py"]
    begin = time.perf_counter()
    (folder / "agent.py").write_text(code)
    platform.cli("deploy", str(folder))
    answer = servers.checked(call_once(platform.call(CHANGING, agents.INPUT["langgraph"])))
    seconds = time.perf_counter() - begin
    if f"hello-{unseen} " not in json.loads(answer.body)["greeting"]:
        raise RuntimeError(f"the change is not served: {answer.body!r}")
    return seconds


def _unchanged(platform: Installation, folder: Path) -> float:
    begin = time.perf_counter()
    deployment = platform.cli("deploy", str(folder))
    seconds = time.perf_counter() - begin
    if not deployment["unchanged"]:
        raise RuntimeError(f"nothing was changed, and yet it was deployed: {deployment}")
    return seconds


def _first(workspace: Workspace, platform: Installation, kind: str) -> float:
    """Seconds of the first deploy of an agent whose packages are in the cache and were never together before."""
    agent = agents.agent_depending_on(f"first-{kind}", kind, *unseen_choice(workspace, kind))
    folder = agent.write(workspace.folder / "agents" / agent.name)
    begin = time.perf_counter()
    platform.cli("deploy", str(folder))
    seconds = time.perf_counter() - begin
    platform.cli("delete", agent.name, "--yes")
    return seconds


def unseen_choice(workspace: Workspace, kind: str) -> tuple[str, ...]:
    """The next choice of small packages; which have been used up is kept."""
    path = workspace.folder / f"choice-{kind}"
    used = int(path.read_text()) if path.exists() else 0
    path.write_text(str(used + 1))
    choices = (choice for size in range(1, len(SMALL)) for choice in itertools.combinations(SMALL, size))
    return next(itertools.islice(choices, used, None))


def _uv_environment(workspace: Workspace, kind: str) -> float:
    """Seconds in which uv makes a new environment of the framework."""
    folder = workspace.folder / "baseline" / f"environment-{kind}"
    uv = str(ROOT / ".tools" / "uv" / "bin" / "uv")
    begin = time.perf_counter()
    for command in (
        ("venv", "-q", "--clear", "--python", "3.11", str(folder)),
        ("pip", "install", "-q", "--python", str(folder / "bin" / "python"), "--compile-bytecode", agents.pin(kind)),
    ):
        subprocess.run([uv, *command], check=True, env=process_environment())
    return time.perf_counter() - begin
