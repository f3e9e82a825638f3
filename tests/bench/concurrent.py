"""A thousand calls at once, from zero, of two agents that wait a second: one `async`, one blocking its thread.

A call counts as failed if it is not answered, or if the journal does not have its run as succeeded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench import agents
from tests.bench.harness import Result, Row, Target, Workspace, at_most, median, percentile
from tests.bench.installation import Installation, deploy_missing, usage, wait_for_zero
from tests.bench.load import call_all

NAME = "concurrent"
EACH = 500
AGENTS = {"waiting-async": agents.WAITING_ASYNC, "waiting-def": agents.WAITING_DEF}
TARGETS: dict[str, Target] = {"failed": at_most(0), "wall_s": at_most(5), "memory_mb": at_most(400)}
LOOK = 0.2  # seconds between two looks at the memory
MOST_LISTED = 1000


def installation(workspace: Workspace) -> Installation:
    return Installation(workspace.folder / "home")


def installations(workspace: Workspace) -> list[Installation]:
    return [installation(workspace)]


def prepare(workspace: Workspace) -> None:
    platform = installation(workspace)
    platform.up()
    deploy_missing(
        platform.cli,
        [agents.plain_agent(name, code) for name, code in AGENTS.items()],
        workspace.folder / "agents",
    )
    wait_for_zero(platform.cli, AGENTS)


def measure(workspace: Workspace) -> Result:
    platform = installation(workspace)
    calls = [platform.call(name, {"number": number}) for number in range(EACH) for name in AGENTS]
    supervisor = platform.pid
    memory: list[float] = []
    with _watching(supervisor, memory):
        begin = time.perf_counter()
        answers = call_all(calls)
        wall = time.perf_counter() - begin
    answered = {
        answer.headers["orchestrator-run"].rpartition("/")[2]
        for answer in answers
        if answer.status == 200 and "orchestrator-run" in answer.headers
    }
    found = {
        run["id"]
        for name in AGENTS
        for run in platform.cli("runs", "--agent", name, "--state", "succeeded", "--limit", str(MOST_LISTED))["items"]
    }
    failed = len(calls) - len(answered & found)
    seconds = [answer.whole for answer in answers if answer.status == 200]
    problems = {answer.body[:300].decode(errors="replace") for answer in answers if answer.status != 200}
    rows = [
        Row("calls that failed, or that the journal lacks", "calls", failed),
        Row("all answers", "s", wall, 1.0),
        *([Row("one answer, median", "s", median(seconds), 1.0)] if seconds else []),
        *([Row("one answer, 99th percentile", "s", percentile(seconds, 99), 1.0)] if seconds else []),
        Row("memory in all, highest (shared pages once)", "MiB", max(memory)),
    ]
    figures = {"failed": float(failed), "wall_s": wall, "memory_mb": max(memory)}
    samples = {"answer_s": seconds, "memory_mb": memory}
    notes = ["The baseline is the second that every agent waits.", *sorted(problems)[:3]]
    return Result(samples, rows, figures, TARGETS, notes)


@contextmanager
def _watching(supervisor: int, memory: list[float]) -> Iterator[None]:
    """Note the memory of the whole platform again and again, meanwhile."""
    over = threading.Event()

    def look() -> None:
        while True:
            memory.append(usage(supervisor).pss)
            if over.wait(LOOK):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
