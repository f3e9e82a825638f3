"""Instances of a real zygote over supervisor.sock: how they start, fail, end, and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from local.sandbox.watchdog import process_tree
from orchestrator_runtime.contract.errors import BadInput, Problem
from orchestrator_runtime.contract.instance import Limits
from orchestrator_runtime.contract.wire import connect
from tests.integration.sandbox.cells import ORGANIZATION, PATIENCE, Cell, Ended, Keeper, Supervisor


async def stop(supervisor: Supervisor, cell: Cell, *, grace: float) -> None:
    await supervisor.peer.call("instance.stop", {"instance": cell.id, "grace": grace})


async def instances(supervisor: Supervisor) -> list[str]:
    reply = await supervisor.peer.call("instance.list")
    return [info["instance"] for info in reply.fields["instances"]]


async def failure(supervisor: Supervisor, **start: object) -> Problem:
    with pytest.raises(Problem) as caught:
        await supervisor.start(**start)  # type: ignore[arg-type]
    assert await instances(supervisor) == []
    return caught.value


async def test_an_instance_that_is_ready_is_announced_and_listed(supervisor: Supervisor) -> None:
    cell = await supervisor.start()
    assert supervisor.ready == [cell.id]
    assert await instances(supervisor) == [cell.id]
    assert cell.info["state"] == "ready"
    assert cell.info["agent"] == "one"
    assert len(cell.info["call_token"]) >= 32


async def test_every_instance_has_a_token_and_a_socket_of_its_own(supervisor: Supervisor) -> None:
    one, other = [await supervisor.start() for _ in range(2)]
    assert one.info["call_token"] != other.info["call_token"]
    assert one.info["socket"] != other.info["socket"]


async def test_asked_to_stop_it_finishes_and_goes(supervisor: Supervisor) -> None:
    cell = await supervisor.start()
    await stop(supervisor, cell, grace=PATIENCE)
    ending = await cell.ending()
    assert (ending["reason"], ending["state"]) == ("stopped", "gone")
    assert not Path(cell.info["socket"]).exists()
    assert await instances(supervisor) == []


async def test_one_that_does_not_go_is_killed_when_its_time_is_over(supervisor: Supervisor) -> None:
    cell = await supervisor.start(entrypoint="agent:stubborn")
    await stop(supervisor, cell, grace=0.05)
    assert (await cell.ending())["reason"] == "stopped"


async def test_without_grace_it_is_killed_at_once_and_stopping_twice_is_once(supervisor: Supervisor) -> None:
    cell = await supervisor.start()
    await stop(supervisor, cell, grace=0)
    await stop(supervisor, cell, grace=0)
    assert (await cell.ending())["reason"] == "stopped"


async def test_one_that_exits_by_itself_is_announced_with_its_last_words(supervisor: Supervisor) -> None:
    cell = await supervisor.start()
    await cell.attempt("say", "farewell")
    with pytest.raises(Ended):
        await cell.attempt("leave", 7)
    ending = await cell.ending()
    assert ending["reason"] == "exited"
    assert ending["log"][-1] == "farewell"


async def test_one_that_is_killed_from_outside_is_announced(supervisor: Supervisor) -> None:
    cell = await supervisor.start()
    os.kill(cell.pid, signal.SIGKILL)
    assert (await cell.ending())["reason"] == "exited"


async def test_an_agent_that_cannot_be_loaded_fails_with_its_own_problem(supervisor: Supervisor) -> None:
    problem = await failure(supervisor, entrypoint="agent:fails")
    assert (problem.code, problem.detail) == ("entrypoint_import", "it cannot be imported")


async def test_an_agent_that_exits_while_it_loads_fails_with_its_log(supervisor: Supervisor) -> None:
    problem = await failure(supervisor, entrypoint="agent:exits")
    assert problem.code == "instance_exited"
    assert problem.extra["log"] == ["leaving"]


async def test_an_agent_that_takes_too_long_to_load_is_killed(supervisor: Supervisor) -> None:
    problem = await failure(supervisor, entrypoint="agent:hangs", start_timeout=0.5)
    assert problem.code == "start_timeout"
    assert "timeouts.start" in problem.hint


async def test_nonsense_on_the_control_socket_is_ignored(supervisor: Supervisor) -> None:
    cell = await supervisor.start(entrypoint="agent:babbles")
    assert await cell.attempt("processes") == [1]


async def test_a_folder_that_is_not_there_is_said(supervisor: Supervisor) -> None:
    problem = await failure(supervisor, agent="missing")
    assert problem.code == "fork_failed"
    assert "missing" in problem.detail


async def test_an_environment_that_is_not_there_is_said(supervisor: Supervisor, jail: Keeper) -> None:
    with pytest.raises(Problem) as caught:
        await warm(supervisor, digest="none", path=str(jail.home.root / "none"))
    assert caught.value.code == "sandbox_failed"


async def test_an_environment_that_cannot_start_python_is_said_with_its_last_words(
    supervisor: Supervisor, jail: Keeper
) -> None:
    (jail.environment / "bin/broken").write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    (jail.environment / "bin/broken").chmod(0o755)
    with pytest.raises(Problem) as caught:
        await warm(supervisor, digest="broken", path=str(jail.environment), program="bin/broken")
    assert caught.value.code == "zygote_failed"
    assert caught.value.extra["log"] == ["it is broken"]


async def warm(supervisor: Supervisor, *, digest: str, path: str, program: str = "bin/python") -> None:
    environment = {"digest": digest, "path": path, "python": f"{path}/{program}"}
    fields = {"organization": ORGANIZATION, "environment": environment, "framework": "plain"}
    await supervisor.peer.call("zygote.warm", fields)


async def test_requests_that_lack_something_are_refused(supervisor: Supervisor) -> None:
    for operation in ("instance.start", "sandbox.run"):
        with pytest.raises(BadInput) as caught:
            await supervisor.peer.call(operation, {"organization": "x"})
        assert caught.value.code == "bad_request"


async def test_when_its_zygote_dies_an_instance_dies_and_the_next_start_makes_a_new_one(
    supervisor: Supervisor,
) -> None:
    cell = await supervisor.start()
    zygotes = [pid for pid in process_tree(supervisor.keeper.process.pid) if _is_zygote(pid) and pid != cell.pid]
    os.kill(min(zygotes), signal.SIGKILL)
    assert (await cell.ending())["reason"] == "exited"
    assert await (await supervisor.start()).attempt("processes") == [1]


def _is_zygote(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"orchestrator_runtime.zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


async def test_many_start_at_once(supervisor: Supervisor) -> None:
    cells = await asyncio.gather(*(supervisor.start() for _ in range(20)))
    assert len({cell.id for cell in cells}) == 20
    assert [await cell.attempt("processes") for cell in cells] == [[1]] * 20


async def test_what_an_instance_prints_is_in_the_log_of_its_revision(supervisor: Supervisor, jail: Keeper) -> None:
    cell = await supervisor.start()
    await cell.attempt("say", '{"not": "ours"}')
    await stop(supervisor, cell, grace=PATIENCE)
    lines = [json.loads(line) for line in jail.home.log(ORGANIZATION, "one-00001").read_text().splitlines()]
    said = [line for line in lines if line["instance"] == cell.id]
    assert [line["line"] for line in said] == ["serving one", '{"not": "ours"}']
    assert {line["stream"] for line in said} == {"stdout"}


# builds


def build(*argv: str, **rest: object) -> dict[str, object]:
    limits = Limits(memory_bytes=64 * 2**20, cpu=1.0, processes=16, scratch_bytes=2**20, scratch_files=64)
    return {
        "organization": ORGANIZATION,
        "argv": argv,
        "limits": {name: getattr(limits, name) for name in Limits.__slots__},
        **rest,
    }


async def run(supervisor: Supervisor, spec: dict[str, object], name: str = "b-1") -> int:
    reply = await asyncio.wait_for(supervisor.peer.call("sandbox.run", {"run": name, "spec": spec}), PATIENCE)
    return int(reply.fields["code"])


async def test_a_builds_output_and_exit_code_come_back(supervisor: Supervisor) -> None:
    assert await run(supervisor, build("/bin/sh", "-c", "echo out; echo err >&2; exit 3")) == 3
    assert sorted(b"".join(supervisor.output).split()) == [b"err", b"out"]


async def test_a_build_sees_nothing_of_the_home_and_has_no_network_unless_it_may(
    supervisor: Supervisor, jail: Keeper
) -> None:
    script = f"cat {jail.home.owner_token} || echo hidden; ls -A /sys /home 2>/dev/null; cat /proc/net/route | wc -l"
    assert await run(supervisor, build("/bin/sh", "-c", script)) == 0
    assert b"hidden" in b"".join(supervisor.output)
    assert b"canary" not in b"".join(supervisor.output)


async def test_a_build_may_write_what_it_was_given_and_nothing_else(supervisor: Supervisor, jail: Keeper) -> None:
    outputs = jail.home.root / "outputs"
    outputs.mkdir(exist_ok=True)
    binds = [{"host": str(outputs), "inside": "/out", "read_only": False}]
    spec = build("/bin/sh", "-c", "echo made > /out/file; echo x > /usr/file", binds=binds)
    assert await run(supervisor, spec) != 0
    assert (outputs / "file").read_text() == "made\n"
    assert b"Read-only file system" in b"".join(supervisor.output)


async def test_a_build_that_takes_too_long_is_killed(supervisor: Supervisor) -> None:
    assert await run(supervisor, build("/bin/sh", "-c", "sleep 600", timeout=0.2)) == -signal.SIGKILL


async def test_a_build_that_nobody_wants_any_more_is_killed(supervisor: Supervisor, jail: Keeper) -> None:
    running = asyncio.ensure_future(run(supervisor, build("/bin/sh", "-c", "echo begun; sleep 600"), "b-2"))
    async with asyncio.timeout(PATIENCE):
        while not supervisor.output:
            await asyncio.sleep(0)
        supervisor.peer.notify("sandbox.kill", {"run": "b-2"})
        with pytest.raises(Problem):
            await running


async def test_a_program_that_cannot_be_started_is_said(supervisor: Supervisor) -> None:
    with pytest.raises(Problem) as caught:
        await run(supervisor, build("/usr/bin/no-such-program"))
    assert caught.value.code == "sandbox_failed"
    assert "No such file" in caught.value.detail


async def test_a_stop_goes_on_when_whoever_asked_for_it_has_died(supervisor: Supervisor, jail: Keeper) -> None:
    cell = await supervisor.start(entrypoint="agent:stubborn")
    gateway = await connect(str(jail.home.supervisor_socket), {})
    asked = gateway.start_call("instance.stop", {"instance": cell.id, "grace": 0.2})
    asked.add_done_callback(lambda done: done.exception())
    await gateway.call("instance.list")  # the stop was begun before this was answered
    gateway.close()
    assert (await cell.ending())["reason"] == "stopped"
