"""From zero to the first byte, per framework, beside a fresh process of the same agent.

Each sample calls another agent, which has no instance: one is forked from its environment's zygote, imports the agent's
module, has its run admitted and answers. Also reported: the first call after a start of the platform, when there is no
zygote yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.bench import agents, servers
from tests.bench.harness import Result, Row, Target, Workspace, at_least, at_most, median, percentile
from tests.bench.installation import Installation, deploy_missing, wait_for_zero
from tests.bench.load import call_once

NAME = "cold-start"
COUNTS = {"plain": 100, "langgraph": 100, "agno": 30, "crewai": 30}
ROUNDS = 3
TARGETS: dict[str, Target] = {
    "p95_ms_plain": at_most(50),
    "p95_ms_langgraph": at_most(50),
    "p95_ms_agno": at_most(80),
    "p95_ms_crewai": at_most(150),
    "speedup_langgraph": at_least(20),
    "speedup_crewai": at_least(15),
}


def names(kind: str) -> list[str]:
    return [f"{kind}-{number:03}" for number in range(COUNTS[kind])]


def warm_name(kind: str) -> str:
    """The agent that has its environment's zygote made, and is no sample."""
    return f"{kind}-warm"


def installation(workspace: Workspace) -> Installation:
    egress = f"127.0.0.1:{servers.kept_port(workspace)}"
    return Installation(workspace.folder / "home", {"ORCHESTRATOR_EGRESS_ALLOW": egress})


def installations(workspace: Workspace) -> list[Installation]:
    return [installation(workspace)]


def prepare(workspace: Workspace) -> None:
    platform = installation(workspace)
    port = servers.kept_port(workspace)
    url = f"http://127.0.0.1:{port}"
    platform.up()
    wanted = [agents.agent(name, kind, model_url=url) for kind in COUNTS for name in (warm_name(kind), *names(kind))]
    deploy_missing(platform.cli, wanted, workspace.folder / "agents")
    for kind in COUNTS:
        servers.python_of(kind)
        servers.write_agent(workspace, kind, model_url=url)
    with servers.model(port):
        _first_calls(workspace, platform)
    wait_for_zero(platform.cli, [name for kind in COUNTS for name in names(kind)])


def _first_calls(workspace: Workspace, platform: Installation) -> dict[str, float]:
    """Seconds of a call without a warm zygote, by framework; once per process of the platform, which it restarts."""
    kept = workspace.folder / "without-zygote.json"
    if kept.exists() and (found := json.loads(kept.read_text()))["pid"] == platform.pid:
        return dict(found["seconds"])
    platform.down()
    platform.up()
    seconds = {kind: _sample(platform, kind, warm_name(kind)) for kind in COUNTS}
    kept.write_text(json.dumps({"pid": platform.pid, "seconds": seconds}))
    return seconds


def _sample(platform: Installation, kind: str, agent: str) -> float:
    return servers.checked(call_once(platform.call(agent, agents.INPUT[kind]))).first


def measure(workspace: Workspace) -> Result:
    platform = installation(workspace)
    ours: dict[str, list[float]] = {kind: [] for kind in COUNTS}
    baseline: dict[str, list[float]] = {kind: [] for kind in COUNTS}
    with servers.model(servers.kept_port(workspace)) as url:
        without_zygote = _first_calls(workspace, platform)
        for kind in COUNTS:  # an unused zygote may have been evicted since it was prepared
            _sample(platform, kind, warm_name(kind))
        for number in range(ROUNDS):
            for kind in COUNTS:
                folder = workspace.folder / "baseline" / kind
                baseline[kind].append(servers.fresh_process(kind, folder, model_url=url) * 1000)
            for kind, name in interleaved(number):
                ours[kind].append(_sample(platform, kind, name) * 1000)
    rows = [Row(f"{kind}, first byte, median", "ms", median(ours[kind]), median(baseline[kind])) for kind in COUNTS]
    rows += [
        Row(f"{kind}, first byte, 95th percentile", "ms", percentile(ours[kind], 95), percentile(baseline[kind], 95))
        for kind in COUNTS
    ]
    rows += [
        Row(f"{kind}, no warm zygote", "ms", seconds * 1000, median(baseline[kind]))
        for kind, seconds in without_zygote.items()
    ]
    figures = {f"p95_ms_{kind}": percentile(values, 95) for kind, values in ours.items()}
    for kind in ("langgraph", "crewai"):
        figures[f"speedup_{kind}"] = median(baseline[kind]) / median(ours[kind])
    samples = {f"{kind}_ms": values for kind, values in ours.items()} | {
        f"{kind}_process_ms": values for kind, values in baseline.items()
    }
    return Result(samples, rows, figures, TARGETS)


def interleaved(number: int) -> Iterator[tuple[str, str]]:
    """The samples of one round, the frameworks mixed as evenly as their counts allow."""
    placed = [
        (index / len(mine), kind, name)
        for kind in COUNTS
        for mine in [names(kind)[number::ROUNDS]]
        for index, name in enumerate(mine)
    ]
    for _, kind, name in sorted(placed):
        yield kind, name
