"""What fifty LangGraph agents cost that nobody calls: memory and CPU of the whole platform.

Two installations, so that neither has a zygote of the other: in one all agents share a lock, in the other there are
five locks. The baseline is one idle process of the same agent, fifty times.
"""

from __future__ import annotations

import time

from tests.bench import agents, servers
from tests.bench.harness import Result, Row, Target, Workspace, at_most, median
from tests.bench.installation import AgentFolder, Installation, deploy_missing, usage, wait_for_zero
from tests.bench.load import call_once

NAME = "idle"
AGENTS = 50
# One small package more makes another lock.
LOCKS = {"one": ((),), "five": ((), ("colorama",), ("iniconfig",), ("pluggy",), ("toml",))}
SECONDS = 15.0
PARTS = 3
TARGETS: dict[str, Target] = {"rss_mb_one": at_most(300), "rss_mb_five": at_most(600), "cpu_percent": at_most(1)}


def installation(workspace: Workspace, which: str) -> Installation:
    return Installation(workspace.folder / which)


def installations(workspace: Workspace) -> list[Installation]:
    return [installation(workspace, which) for which in LOCKS]


def wanted(which: str) -> list[AgentFolder]:
    locks = LOCKS[which]
    return [
        agents.agent_depending_on(f"idle-{number:02}", "langgraph", *locks[number % len(locks)])
        for number in range(AGENTS)
    ]


def prepare(workspace: Workspace) -> None:
    for which, locks in LOCKS.items():
        platform = installation(workspace, which)
        platform.up()
        deploy_missing(platform.cli, wanted(which), workspace.folder / f"agents-{which}")
        if usage(platform.pid).zygotes < len(locks):  # it was restarted since the agents were deployed
            for agent in wanted(which)[: len(locks)]:
                servers.checked(call_once(platform.call(agent.name, agents.INPUT["langgraph"])))
    for which in LOCKS:
        wait_for_zero(installation(workspace, which).cli, [agent.name for agent in wanted(which)])
    servers.python_of("langgraph")
    servers.write_agent(workspace, "langgraph", model_url="")


def measure(workspace: Workspace) -> Result:
    supervisors = {which: installation(workspace, which).pid for which in LOCKS}
    rss: dict[str, list[float]] = {which: [] for which in LOCKS}
    cpu: dict[str, list[float]] = {which: [] for which in LOCKS}
    before = {which: usage(pid) for which, pid in supervisors.items()}
    for _ in range(PARTS):
        begin = time.perf_counter()
        time.sleep(SECONDS / PARTS)
        for which, pid in supervisors.items():
            now = usage(pid)
            rss[which].append(now.rss)
            cpu[which].append((now.cpu - before[which].cpu) / (time.perf_counter() - begin) * 100)
            before[which] = now
    process = _process_rss(workspace)
    rows = [
        *(
            Row(
                f"resident memory, {which} lock{'s' if which == 'five' else ''}",
                "MiB",
                median(rss[which]),
                process * AGENTS,
            )
            for which in LOCKS
        ),
        *(
            Row(f"CPU, {which} lock{'s' if which == 'five' else ''}", "% of a core", sum(cpu[which]) / PARTS)
            for which in LOCKS
        ),
    ]
    figures = {
        **{f"rss_mb_{which}": median(values) for which, values in rss.items()},
        "cpu_percent": max(sum(values) / PARTS for values in cpu.values()),
    }
    samples = {f"rss_mb_{which}": values for which, values in rss.items()} | {
        f"cpu_percent_{which}": values for which, values in cpu.items()
    }
    zygotes = ", ".join(f"{before[which].zygotes} with {which}" for which in LOCKS)
    return Result(samples, rows, figures, TARGETS, [f"Zygotes: {zygotes}."])


def _process_rss(workspace: Workspace) -> float:
    """MiB of a process that serves the agent, after its first answer."""
    with servers.serving("langgraph", workspace.folder / "baseline" / "langgraph", model_url="") as (call, process):
        servers.checked(call_once(call))
        return usage(process.pid).rss
