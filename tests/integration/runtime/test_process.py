"""An instance as a process: what it says when it is loaded or cannot be, what it prints, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import httpx
import pytest

from tests.integration.runtime.world import PATIENCE, World, spawn_world

ECHO = "def handle(given):\n    return given\n"


async def ready(world: World) -> None:
    assert (await world.heard())["event"] == "ready"


async def output(world: World) -> tuple[list[dict[str, Any]], str]:
    """Ends the instance; the JSON lines it printed, and all the rest."""
    world.tell("drain")
    async with asyncio.timeout(PATIENCE):
        out, err = await world.ended
    lines = (out + err).decode().splitlines()
    own = [json.loads(line) for line in lines if line.startswith('{"at":')]
    return own, "\n".join(line for line in lines if not line.startswith('{"at":'))


async def test_it_says_that_it_is_ready_and_answers() -> None:
    async with spawn_world(ECHO) as world:
        said = await world.heard()
        assert (said["event"], said["load_ms"] >= 0) == ("ready", True)
        assert (await world.call({"a": 1})).json() == {"a": 1}


@pytest.mark.parametrize(
    ("code", "members", "problem", "words"),
    [
        ("import nothing_of_that_name", {}, "entrypoint_not_importable", "nothing_of_that_name"),
        ("", {"entrypoint": "other:handle"}, "entrypoint_not_importable", "no module other"),
        ("def handle(:", {}, "entrypoint_not_importable", "agent.py, line 1"),
        ("raise ValueError('broken')", {}, "entrypoint_not_importable", "ValueError: broken"),
        ("def other(given): ...", {}, "entrypoint_missing_attribute", "other"),
        ("import sys\nsys.exit(3)", {}, "entrypoint_exited", "exit 3"),
        ("handle = 3", {}, "entrypoint_wrong_framework", "is a int, no function"),
        ("def handle(a, b, c): ...", {}, "entrypoint_wrong_framework", "3 parameters"),
        (ECHO, {"framework": "cobol"}, "framework_unknown", "langgraph"),
        (ECHO, {"framework": "agno"}, "framework_not_installed", "Add agno"),
    ],
)
async def test_it_says_why_it_cannot_be_loaded(code: str, members: dict[str, Any], problem: str, words: str) -> None:
    async with spawn_world(code, **members) as world:
        said = await world.heard()
        assert said["event"] == "failed"
        assert said["problem"]["code"] == problem
        assert said["problem"]["hint"]
        assert words in said["problem"]["detail"] + said["problem"]["hint"]
        await world.ended
        assert world.process is not None
        assert world.process.returncode == 1


async def test_what_fails_at_import_is_in_the_log_but_no_secret_is() -> None:
    code = "import os\nraise ValueError('cannot use ' + os.environ['KEY'])"
    async with spawn_world(code, secrets={"KEY": "a-very-secret-key"}) as world:
        said = await world.heard()
        assert "ValueError: cannot use [secret]" in said["problem"]["detail"]
        out, err = await world.ended
        assert b"Traceback" in err
        assert b"a-very-secret-key" not in out + err


async def test_its_own_modules_may_have_any_name() -> None:
    code = """
import httptools, journal, server, functions.tools

def handle(given):
    return [journal.NAME, server.NAME, httptools.NAME, functions.tools.NAME, __name__]
"""
    files = {path: f"NAME = {path!r}\n" for path in ("journal.py", "server.py", "httptools.py", "functions/tools.py")}
    files |= {"functions/__init__.py": "", "queue.py": code}
    async with spawn_world("", files, entrypoint="queue:handle") as world:
        await ready(world)
        assert (await world.call()).json() == [*list(files)[:4], "queue"]


async def test_what_it_prints_names_its_run() -> None:
    code = """
import asyncio, sys
print("loading")

async def handle(given, run):
    print("begin", given, end="")
    await asyncio.sleep(0)
    print("", "end", file=sys.stderr)
    sys.stdout.write(" and\\nlast")
    print("key", "a-very-secret-key", file=sys.stderr)
"""
    async with spawn_world(code, secrets={"KEY": "a-very-secret-key"}) as world:
        await ready(world)
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(world.call(number, orchestrator_run_id=f"r-{number}"))
        own, rest = await output(world)
        for number in (1, 2):
            lines = [(line["stream"], line["line"]) for line in own if line["run"] == f"r-{number}"]
            out = [("stdout", f"begin {number} and"), ("stdout", "last")]
            assert [line for line in lines if line[0] == "stdout"] == out
            assert [line for line in lines if line[0] == "stderr"] == [("stderr", " end"), ("stderr", "key [secret]")]
        assert rest == "loading"


async def test_a_term_signal_is_a_drain() -> None:
    code = """
import asyncio
gate = asyncio.Event()

async def handle(given):
    if given == "open":
        gate.set()
    if given != "first":
        await gate.wait()
    return given
"""
    async with spawn_world(code) as world:
        await ready(world)
        await asyncio.gather(world.call("first"), world.call("first"))  # two connections, which stay open
        answer = asyncio.ensure_future(world.call("wait"))
        await world.journal.until(lambda: world.journal.received.count("admit") == 3)
        assert world.process is not None
        world.process.send_signal(signal.SIGTERM)
        assert (await world.call("open")).text == "open"
        assert (await answer).text == "wait"
        await world.ended
        assert world.process.returncode == 0


CRASHING = """
import os
from pathlib import Path

async def handle(given, run):
    looked = run.step("look", look, {"at": "it"})
    paid = await run.step("pay", pay, 5)
    if run.attempt == 1:
        await run.step("fail", fail)
    return [paid, looked, run.attempt]

async def pay(amount):
    effect("paid")
    return amount * 2

def look(what):
    effect("looked")
    return {1, 2}

async def fail():
    os._exit(9)

def effect(text):
    with Path("effects").open("a") as file:
        file.write(text + "\\n")
"""


async def test_after_a_crash_what_was_recorded_is_not_done_again() -> None:
    async with spawn_world(CRASHING) as world:
        await ready(world)
        with pytest.raises(httpx.TransportError):
            await world.call(1, orchestrator_run_id="r-1")
        assert (world.folder / "app" / "effects").read_text() == "looked\npaid\n"
        run = world.journal.runs["r-1"]
        assert run.kinds()[:4] == ["step.started", "step.succeeded", "step.started", "step.succeeded"]
        world.journal.lose("r-1")
        async with spawn_world(CRASHING) as second:
            second.journal.runs = world.journal.runs
            await ready(second)
            answer = await second.call(1, orchestrator_run_id="r-1", orchestrator_dispatch="1")
            assert answer.json() == [10, [1, 2], 2]
            assert not (second.folder / "app" / "effects").exists()
        assert run.state == "succeeded"


async def test_code_that_cannot_be_stopped_ends_with_its_process() -> None:
    code = """
import time

def handle(given):
    while True:
        time.sleep(1)
"""
    async with spawn_world(code, timeout=0.1, grace=0.1) as world:
        await ready(world)
        with pytest.raises(httpx.TransportError):
            await world.call(1)
        _, err = await world.ended
        assert b"was told to stop and did not" in err
        assert world.process is not None
        assert world.process.returncode == 71
