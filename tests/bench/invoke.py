"""A warm JSON call: through gateway and runtime, its run admitted and committed; beside the function served directly.

The same function twice: as `def` beside functions-framework's synchronous server, as `async def` beside its ASGI
server. Both get a worker process per core.
"""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench import agents, servers
from tests.bench.harness import Result, Row, Target, Workspace, at_least, at_most, median, median_of_rounds
from tests.bench.installation import Installation, deploy_missing
from tests.bench.load import Call, Load, call_once, load

NAME = "invoke"
ROUNDS = 5
MANY = 64
SECONDS = {1: 0.5, MANY: 1.0}
TARGETS: dict[str, Target] = {"vs_sync": at_least(1.5), "vs_asgi": at_least(0.35), "added_p50_ms": at_most(1.5)}
AGENTS = {"def": agents.PLAIN, "async": agents.ASYNC}


def installation(workspace: Workspace) -> Installation:
    return Installation(workspace.folder / "home")


def installations(workspace: Workspace) -> list[Installation]:
    return [installation(workspace)]


def prepare(workspace: Workspace) -> None:
    platform = installation(workspace)
    platform.up()
    wanted = [agents.plain_agent(f"greeter-{name}", code) for name, code in AGENTS.items()]
    deploy_missing(platform.cli, wanted, workspace.folder / "agents")
    servers.python_of("functions-framework")


def measure(workspace: Workspace) -> Result:
    platform = installation(workspace)
    with ExitStack() as stack:
        calls = {name: platform.call(f"greeter-{name}", agents.INPUT["plain"]) for name in AGENTS}
        for name, asgi in (("sync", False), ("asgi", True)):
            address = stack.enter_context(servers.functions_framework(workspace, asgi=asgi))
            calls[name] = Call(address, calls["def"].body)
        for call in calls.values():
            servers.checked(call_once(call))
        measured: dict[tuple[str, int], list[Load]] = {(name, size): [] for name in calls for size in SECONDS}
        for _ in range(ROUNDS):
            for connections, seconds in SECONDS.items():
                for name, call in calls.items():
                    measured[name, connections].append(_load(call, connections, seconds))
    return _result(measured)


def _load(call: Call, connections: int, seconds: float) -> Load:
    got = load(call, connections=connections, seconds=seconds)
    for failure in got.failures:
        servers.checked(failure)
    return got


def _result(measured: dict[tuple[str, int], list[Load]]) -> Result:
    rate = {key: median([part.rate for part in rounds]) for key, rounds in measured.items()}
    p50, p99 = (
        {key: median_of_rounds([part.latencies for part in rounds], at) * 1000 for key, rounds in measured.items()}
        for at in (50, 99)
    )
    pairs = (("def", "sync"), ("async", "asgi"))
    rows = []
    for connections in SECONDS:
        for ours, theirs in pairs:
            what = f"{ours}, {connections} connection{'s' if connections > 1 else ''}"
            mine, other = (ours, connections), (theirs, connections)
            rows += [
                Row(what, "requests/s", rate[mine], rate[other]),
                Row(f"{what}, median", "ms", p50[mine], p50[other]),
                Row(f"{what}, 99th percentile", "ms", p99[mine], p99[other]),
            ]
    figures = {
        "vs_sync": rate["def", MANY] / rate["sync", MANY],
        "vs_asgi": rate["async", MANY] / rate["asgi", MANY],
        "added_p50_ms": max(p50[ours, 1] - p50[theirs, 1] for ours, theirs in pairs),
    }
    samples = {
        f"{name}_{connections}_per_s": [part.rate for part in rounds]
        for (name, connections), rounds in measured.items()
    }
    samples |= {
        f"{name}_1_ms": [value * 1000 for part in measured[name, 1] for value in part.latencies]
        for name in ("def", "async", "sync", "asgi")
    }
    return Result(samples, rows, figures, TARGETS)
