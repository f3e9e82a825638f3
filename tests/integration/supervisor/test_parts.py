"""Parts of the supervisor by themselves: sockets, children, tokens of instances, uids, groups, the watchdog."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.sandbox import cgroups, confinement, uids, watchdog
from local.sandbox.cgroups import ControlGroups
from local.sandbox.protections import IN_FORCE, missing_between_organizations, tried
from local.supervisor import sockets
from local.supervisor.children import Child, ChildSpec
from local.supervisor.egress import EgressOffers
from local.supervisor.instances import Credentials, Instances, StartRequest
from local.supervisor.logs import RevisionLog
from orchestrator_runtime.contract.errors import Conflict
from orchestrator_runtime.contract.instance import InstanceStart, Limits
from tests.fakes.manual_clock import ManualClock

PATIENCE = 30.0

# sockets


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with sockets.listen_tcp("127.0.0.1", taken) as listening:
            assert listening.getsockname()[1] > taken


def test_the_one_port_that_is_never_used_is_passed_over() -> None:
    with sockets.listen_tcp("127.0.0.1", 2024) as listening:
        assert listening.getsockname()[1] > 2024


def test_when_no_port_is_free_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PORTS_TRIED", 1)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Conflict) as caught:
        sockets.listen_tcp("127.0.0.1", other.getsockname()[1])
    assert caught.value.code == "port_in_use"


def test_after_the_last_port_there_is_none() -> None:
    with socket.create_server(("127.0.0.1", 65535)), pytest.raises(Conflict, match="between 65535 and 65535"):
        sockets.listen_tcp("127.0.0.1", 65535)


def test_what_an_earlier_process_left_is_replaced_and_the_socket_is_private() -> None:
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        path = Path(folder, "x.sock")
        sockets.listen_unix(path).close()
        with sockets.listen_unix(path):
            assert path.stat().st_mode & 0o777 == 0o600


# children


async def test_a_child_that_ends_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "short_lived.py").write_text("import os\nos.write(int(os.environ['OUT']), b'.')\n")
    reading, writing = os.pipe()
    env = {"PYTHONPATH": str(tmp_path), "OUT": str(writing)}
    child = Child(ChildSpec("short", "short_lived", env, (writing,)), clock=ManualClock())
    running = asyncio.create_task(child.run())
    assert await asyncio.to_thread(os.read, reading, 1) == b"."
    assert await asyncio.to_thread(os.read, reading, 1) == b"."
    await child.stop(grace=PATIENCE)
    await asyncio.wait_for(running, PATIENCE)
    assert child.restarts >= 1
    os.close(reading)
    os.close(writing)


async def test_a_child_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    ignoring = "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\n"
    (tmp_path / "stubborn.py").write_text(ignoring + "os.write(int(os.environ['OUT']), b'.')\ntime.sleep(600)\n")
    reading, writing = os.pipe()
    child = Child(
        ChildSpec("stubborn", "stubborn", {"PYTHONPATH": str(tmp_path), "OUT": str(writing)}, (writing,)),
        clock=ManualClock(),
    )
    running = asyncio.create_task(child.run())
    await asyncio.to_thread(os.read, reading, 1)
    await child.stop(grace=0.05)
    await asyncio.wait_for(running, PATIENCE)
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL
    os.close(reading)
    os.close(writing)


# tokens


@dataclass
class Sleeper:
    """A process that is no sandbox, in place of a forked instance."""

    process: subprocess.Popen[bytes]
    pidfd: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def out_of_memory(self) -> bool:
        return False

    def release(self) -> None:
        self.process.wait()


@dataclass
class SleeperForker:
    """Says `ready` in the name of every process it starts, and keeps the instance's end of the control socket."""

    controls: list[socket.socket] = field(default_factory=list)
    starts: list[InstanceStart] = field(default_factory=list)

    async def fork(self, start: InstanceStart, *, control: int, **rest: Any) -> Sleeper:
        theirs = socket.socket(fileno=os.dup(control))
        theirs.send(b'{"event": "ready"}')
        self.controls.append(theirs)
        self.starts.append(start)
        process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        return Sleeper(process, os.pidfd_open(process.pid))

    def ended(self, start: InstanceStart, environment: Mapping[str, Any]) -> None:
        """Nobody counts."""


async def test_an_instance_gets_a_fresh_token_before_the_old_one_expires(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    clock = ManualClock()

    async def credentials(instance: str, request: StartRequest) -> Credentials:
        asked.append(request.secrets)
        return Credentials(f"token {len(asked)}", clock.now().timestamp() + 100, dict.fromkeys(request.secrets, "v"))

    forker, offers = SleeperForker(), EgressOffers()
    with tempfile.TemporaryDirectory(prefix="orc-") as folder:
        log = RevisionLog(tmp_path / "a.log")
        instances = Instances(
            folder=Path(folder),
            forker=forker,
            credentials=credentials,
            announce=lambda operation, fields: None,
            egress=offers,
            log_for=lambda organization, revision: log,
            clock=clock,
        )
        start = {
            "agent": "a",
            "version": "v",
            "framework": "plain",
            "entrypoint": "a:b",
            "limits": {"memory_bytes": 1, "cpu": 1.0},
            "concurrency": 0,
            "timeout": 1.0,
            "grace": 1.0,
            "payload_limit": 1,
            "network": ["example.com"],
        }
        request = StartRequest("org-1", "a-00001", {"digest": "e"}, "/s", start, PATIENCE, ["KEY"])
        await instances.start(request)
        [told] = forker.starts
        assert (told.journal_token, told.secrets, told.network) == ("token 1", {"KEY": "v"}, "hosts")
        await instances.renew_tokens(older_than=clock.now().timestamp() + 99)
        assert asked == [["KEY"]]
        await instances.renew_tokens(older_than=clock.now().timestamp() + 101)
        assert json.loads(forker.controls[0].recv(4096)) == {"event": "token", "journal_token": "token 2"}
        assert asked == [["KEY"], []]  # secrets are told once
        await instances.stop_all(grace=0)
        assert instances.all() == []
        forker.controls[0].close()
        log.close()
    offers._ours.close()
    offers.theirs.close()


# uids


def test_each_organization_keeps_a_uid_that_nobody_else_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    known = uids.OrganizationUids(tmp_path / "uids.json")
    first, second = known.of("org-1"), known.of("org-2")
    assert (first, second) == (uids.FIRST_UID, uids.FIRST_UID + 1)
    assert uids.OrganizationUids(tmp_path / "uids.json").of("org-1") == first


def test_a_uid_that_was_given_is_never_given_again() -> None:
    assert uids.next_uid({"gone": 200_007}) == 200_008


def test_an_ordinary_user_has_no_uids_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert uids.OrganizationUids(tmp_path / "uids.json").of("org-1") is None


# limits

LIMITS = Limits(memory_bytes=2**20, cpu=0.5, processes=7)


def test_the_limits_in_the_words_of_both_versions_of_control_groups() -> None:
    assert cgroups.settings(2, "memory", LIMITS) == [("memory.max", "1048576"), ("memory.swap.max", "0")]
    assert ("memory.limit_in_bytes", "1048576") in cgroups.settings(1, "memory", LIMITS)
    assert cgroups.settings(2, "cpu", LIMITS) == [("cpu.max", "50000 100000")]
    assert ("cpu.cfs_quota_us", "50000") in cgroups.settings(1, "cpu", LIMITS)
    assert cgroups.settings(1, "pids", LIMITS) == cgroups.settings(2, "pids", LIMITS) == [("pids.max", "7")]


@pytest.mark.parametrize(("version", "file"), [(2, "memory.events"), (1, "memory.oom_control")])
def test_kills_for_memory_are_counted_by_the_kernel(tmp_path: Path, version: int, file: str) -> None:
    group = ControlGroups(version, {"memory": tmp_path}).create("x", LIMITS)
    assert group.out_of_memory_kills() == 0
    (group.folders[0] / file).write_text("oom 3\noom_kill 2\n")
    assert group.out_of_memory_kills() == 2
    assert not group.remove()  # a plain folder with a file in it stays
    assert group.entrances() == (str(group.folders[0] / "cgroup.procs"),)


def test_groups_of_supervisors_that_are_no_more_are_swept(tmp_path: Path) -> None:
    for owner in (os.getpid(), 4_000_000):
        (tmp_path / f"orchestrator-{owner}-x").mkdir()
    (tmp_path / "somebody-elses").mkdir()
    ControlGroups(2, {"memory": tmp_path, "pids": tmp_path}).sweep()
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [f"orchestrator-{os.getpid()}-x", "somebody-elses"]


def test_where_groups_are_is_read_from_the_kernels_tables(tmp_path: Path) -> None:
    mounted = cgroups._mounted(
        "25 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "26 1 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "27 1 0:3 / /tmp rw - tmpfs tmpfs rw\n"
    )
    assert mounted[""] == Path("/sys/fs/cgroup/unified")
    assert mounted["cpuacct"] == mounted["cpu"] == Path("/sys/fs/cgroup/cpu")
    assert cgroups._own_groups("2:cpu,cpuacct:/a\n0::/b\n") == {"cpu": "/a", "cpuacct": "/a", "": "/b"}
    (tmp_path / "inside").mkdir()
    assert cgroups._existing(tmp_path, "/inside") == tmp_path / "inside"
    assert cgroups._existing(tmp_path, "/of/the/host") == tmp_path


def test_version_2_is_used_where_its_controllers_are_delegated(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    assert cgroups._delegated_v2(tmp_path, "/") == tmp_path
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    assert cgroups._delegated_v2(tmp_path, "/") is None


def test_a_sandbox_gets_as_many_processors_as_its_share_needs() -> None:
    available = os.sched_getaffinity(0)
    assert confinement.some_cpus(64.0) == ()
    if len(available) > 1:
        assert set(confinement.some_cpus(0.5)) < available


def test_the_watchdog_asks_for_the_exact_size_only_in_doubt() -> None:
    asked = []

    def share(pid: int) -> int:
        asked.append(pid)
        return {2: 90, 3: 110}[pid]

    assert watchdog.over_limit({1: 100, 2: 100, 3: 100}, {1: 50, 2: 150, 3: 150}, share) == [3]
    assert asked == [2, 3]


def test_the_watchdog_ends_what_is_over_its_limit_and_says_so() -> None:
    small, large = (subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2))
    guard = watchdog.Watchdog()
    watched = []
    for process, limit in ((small, 2**40), (large, 1)):
        pidfd = os.pidfd_open(process.pid)
        watched.append(guard.watch(process.pid, pidfd, limit))
        os.close(pidfd)
    guard.look()
    assert large.wait(PATIENCE) == -signal.SIGKILL
    assert [one.killed for one in watched] == [False, True]
    for one in watched:
        guard.forget(one)
    small.communicate()
    assert large.stdin is not None
    large.stdin.close()


def test_a_process_tree_is_everything_that_descends() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        tree = list(watchdog.process_tree(shell.pid))
        assert len(tree) == 2
        for pid in tree:
            os.kill(pid, signal.SIGKILL)


# protections


def test_a_protection_that_cannot_be_had_says_why() -> None:
    def attempt() -> None:
        raise OSError(1, "Operation not permitted")

    assert tried(attempt) == "missing: [Errno 1] Operation not permitted"
    assert tried(lambda: os._exit(9)) == "missing: the trial ended with code 9"
    assert tried(lambda: None) == IN_FORCE


def test_what_a_second_organization_would_lack_is_named() -> None:
    found = {"namespaces": IN_FORCE, "private files": IN_FORCE, "system call filter": IN_FORCE}
    assert missing_between_organizations({**found, "own host uid": "missing: only root"}) == ["own host uid"]
    assert missing_between_organizations({**found, "own host uid": IN_FORCE}) == []
