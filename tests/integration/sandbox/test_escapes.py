"""A corpus of escape attempts from inside an instance: files, processes, the kernel, the network.

Each is also made outside, where it succeeds: so a refusal is the sandbox's, and not a mistake of the attempt.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from orchestrator_runtime.contract.instance import JOURNAL_SOCKET
from orchestrator_runtime.contract.sandbox import kernel, namespaces, privileges, seccomp
from tests.integration.sandbox import attempts
from tests.integration.sandbox.cells import CANARY, USER, Cell, Keeper, Refused, Supervisor, keeper

MACHINE = (seccomp.X86_64, seccomp.AARCH64).index(kernel.MACHINE)
NUMBERS = {
    name: number
    for name, numbers in {**seccomp.FORBIDDEN, **seccomp.ISOLATING}.items()
    if (number := numbers[MACHINE]) is not None
}
# Forbidden calls that need no privilege where no filter is: the control of the others would harm the machine.
HARMLESS = (
    "ptrace",
    "add_key",
    "keyctl",
    "process_vm_readv",
    "kcmp",
    "pidfd_getfd",
    "shmget",
    "memfd_create",
    "unshare",
)
CAP_SYS_RESOURCE = 1 << 24
NO_FILE = {errno.ENOENT, errno.EACCES, errno.EROFS}


async def refused(cell: Cell, attempt: str, *arguments: object) -> Refused:
    """What refused the attempt; what it got otherwise is in the test's message."""
    try:
        got = await cell.attempt(attempt, *arguments)
    except Refused as refusal:
        return refusal
    pytest.fail(f"{attempt}{arguments} got {got!r}")


@pytest.fixture
async def cell(supervisor: Supervisor) -> Cell:
    """An instance of the agent `one` that all attempts of this file share: none of them should leave a trace."""
    return await supervisor.shared()


@pytest.fixture
async def listed(supervisor: Supervisor) -> Cell:
    """An instance of an agent that may reach one host."""
    return await supervisor.start("one", network=["allowed.test"])


# files of others


@pytest.mark.parametrize("name", ["database", "master_key", "owner_token"])
async def test_the_homes_database_and_keys_cannot_be_read(cell: Cell, jail: Keeper, name: str) -> None:
    path = str(getattr(jail.home, name))
    assert attempts.read_file(path) == CANARY
    assert (await refused(cell, "read_file", path)).errno in NO_FILE


async def test_another_agents_files_cannot_be_read(cell: Cell, jail: Keeper) -> None:
    path = str(jail.source("other") / "private.txt")
    assert attempts.read_file(path) == CANARY
    assert (await refused(cell, "read_file", path)).errno in NO_FILE


async def test_no_file_that_can_be_found_holds_what_belongs_to_others(cell: Cell, jail: Keeper) -> None:
    assert len(attempts.search(CANARY, str(jail.home.root))) == 4
    assert await cell.attempt("search", CANARY, "/") == []


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/ssh", "/home", "/boot", "/sys/kernel", "/dev/mem", "/dev/kmsg"])
async def test_the_hosts_own_files_are_not_there(cell: Cell, path: str) -> None:
    attempt = "list_folder" if path in {"/home", "/boot", "/etc/ssh", "/sys/kernel"} else "read_file"
    assert (await refused(cell, attempt, path)).errno == errno.ENOENT


async def test_its_accounts_are_not_those_of_the_host(cell: Cell) -> None:
    names = [line.split(":")[0] for line in (await cell.attempt("read_file", "/etc/passwd")).splitlines()]
    assert names == ["agent", "nobody"]


async def test_nothing_of_the_supervisor_stays_open(cell: Cell) -> None:
    opened = await cell.attempt("open_descriptors")
    assert opened.pop("0") == "/dev/null"
    assert all(target.startswith(("pipe:", "socket:")) for target in opened.values())
    assert len(opened) <= 5  # its two outputs, its two sockets, and the connection of this attempt


# environment


async def test_the_supervisors_environment_is_not_inherited(cell: Cell) -> None:
    assert CANARY not in (await cell.attempt("environment")).values()


async def test_secrets_reach_their_agent_only(supervisor: Supervisor) -> None:
    owner = await supervisor.start("one", secrets=("API_KEY",))
    assert (await owner.attempt("environment"))["API_KEY"] == "value of API_KEY"
    assert "API_KEY" not in await owner.attempt("read_file", "/proc/self/environ")
    other = await supervisor.start("other")
    assert "API_KEY" not in await other.attempt("environment")
    for pid in (owner.pid, other.pid):
        assert (await refused(other, "read_file", f"/proc/{pid}/environ")).errno == errno.ENOENT


# poison


async def test_an_agent_reads_what_knative_s_contract_names_in_its_environment(cell: Cell) -> None:
    environment = await cell.attempt("environment")
    names = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
    assert [environment[name] for name in names] == [
        "8080",
        cell.info["agent"],
        cell.info["agent"],
        cell.info["revision"],
    ]


async def test_the_shared_environment_cannot_be_written(cell: Cell, jail: Keeper) -> None:
    module = str(jail.site_packages / "attempts.py")
    for attempt in ("write_file", "replace_file", "change_mode"):
        assert (await refused(cell, attempt, module)).errno == errno.EROFS
    assert Path(module).read_text() != "poison"


@pytest.mark.parametrize(
    "path",
    [
        "/app/agent.py",
        "/app/new.py",
        "/opt/orchestrator/runtime/orchestrator_runtime/instance.py",
        "/usr/bin/env",
        "/etc/passwd",
        "/etc/hosts",
        "/bin/new",
        "/new",
        "/run/new",
        "/run/orchestrator/new",
    ],
)
async def test_nothing_but_the_scratch_folder_can_be_written(cell: Cell, path: str) -> None:
    assert (await refused(cell, "write_file", path)).errno in {errno.EROFS, errno.EACCES}
    assert await cell.attempt("write_file", "/tmp/new") == "/tmp/new"


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"])
async def test_the_kernels_settings_cannot_be_written(cell: Cell, path: str) -> None:
    assert (await refused(cell, "write_file", path)).errno in {*NO_FILE, errno.EPERM}


async def test_no_device_can_be_made(cell: Cell) -> None:
    assert (await refused(cell, "make_device", "/tmp/disk")).errno == errno.EPERM


# processes of others


async def test_only_its_own_processes_are_there(cell: Cell) -> None:
    assert cell.pid in attempts.processes()
    assert await cell.attempt("processes") == [1]


async def test_a_foreign_process_cannot_be_signalled(supervisor: Supervisor, cell: Cell) -> None:
    other = await supervisor.start("other")
    for pid in (other.pid, os.getpid(), supervisor.keeper.process.pid):
        assert attempts.signal_process(pid)
        assert (await refused(cell, "signal_process", pid)).errno == errno.ESRCH


async def test_a_foreign_processs_memory_cannot_be_read(supervisor: Supervisor, cell: Cell) -> None:
    other = await supervisor.start("other")
    assert attempts.read_memory(os.getpid()) == "\x7fELF"
    assert (await refused(cell, "read_memory", other.pid)).errno == errno.ENOENT


# the kernel


@pytest.mark.parametrize("name", NUMBERS)
async def test_a_forbidden_system_call_is_refused(cell: Cell, name: str) -> None:
    assert (await refused(cell, "system_call", NUMBERS[name])).errno == errno.EPERM


@pytest.mark.parametrize("name", HARMLESS)
def test_outside_the_same_call_meets_something_else(name: str) -> None:
    def answer() -> int:
        try:
            return attempts.system_call(NUMBERS[name])
        except OSError as error:
            return error.errno or 0

    assert answer() != errno.EPERM


@pytest.mark.parametrize("flag", ["NEWUSER", "NEWNS", "NEWPID", "NEWNET", "NEWIPC", "NEWUTS"])
async def test_no_namespace_can_be_made_by_clone(cell: Cell, flag: str) -> None:
    number = seccomp._CLONE[MACHINE]
    assert (await refused(cell, "system_call", number, getattr(namespaces, flag) | 17)).errno == errno.EPERM
    assert (await refused(cell, "system_call", seccomp._CLONE3[MACHINE], 0, 0)).errno == errno.ENOSYS


@pytest.mark.skipif(kernel.MACHINE != seccomp.X86_64, reason="x32 exists on x86_64 only")
async def test_the_other_binary_interface_is_no_way_around_the_filter(cell: Cell) -> None:
    assert "ended its process" in str(await refused(cell, "system_call", 0x40000000 | 39))


@pytest.mark.parametrize(
    ("family", "kind"), [(17, socket.SOCK_RAW), (40, socket.SOCK_STREAM), (38, socket.SOCK_SEQPACKET)]
)
async def test_sockets_that_no_namespace_confines_cannot_be_opened(cell: Cell, family: int, kind: int) -> None:
    assert (await refused(cell, "open_socket", family, kind, 0)).errno == errno.EAFNOSUPPORT


async def test_raw_packets_cannot_be_sent(cell: Cell) -> None:
    assert (await refused(cell, "open_socket", socket.AF_INET, socket.SOCK_RAW, 1)).errno == errno.EPERM


async def test_nothing_can_be_typed_into_a_terminal(cell: Cell) -> None:
    with pytest.raises(OSError, match="ioctl") as caught, open("/dev/null") as null:  # noqa: PTH123
        fcntl.ioctl(null, 0x5412, b"x")
    assert caught.value.errno == errno.ENOTTY
    assert (await refused(cell, "type_into_terminal")).errno == errno.EPERM


# privileges


async def test_it_is_nobody_of_weight_and_cannot_become_root(cell: Cell, jail: Keeper) -> None:
    uids = {int(word) for word in (await cell.attempt("status", "Uid")).split()}
    assert 0 not in uids
    assert jail.mode == "user" or uids.isdisjoint({os.getuid()})
    assert (await refused(cell, "become_root")).errno in {
        errno.EPERM,
        errno.EINVAL,
    }  # there is no root in its namespace
    assert (await refused(cell, "map_root")).errno in {errno.EPERM, errno.EACCES}


@pytest.mark.parametrize("name", ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"])
async def test_it_has_no_capabilities(cell: Cell, name: str) -> None:
    assert int(await cell.attempt("status", name), 16) == 0


async def test_a_set_user_id_program_gives_nothing(cell: Cell, jail: Keeper) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a program that becomes root, to try it")
    program = jail.source("one") / "become-root"
    shutil.copyfile("/usr/bin/id", program)
    program.chmod(0o4755)
    if jail.mode == "user":  # else the folders above it are closed to others
        outside = subprocess.run([program, "-u"], user=USER, capture_output=True, text=True, check=True, cwd="/")
        assert outside.stdout == "0\n"
    assert await cell.attempt("run_program", "/app/become-root", "-u") not in {"", "0"}
    assert await cell.attempt("status", "NoNewPrivs") == "1"


@pytest.mark.parametrize("limit", ["RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_CORE"])
async def test_no_limit_can_be_raised(cell: Cell, limit: str) -> None:
    assert (await refused(cell, "raise_limit", getattr(resource, limit))).error in {
        "ValueError",
        "PermissionError",
    }


async def test_the_kernels_choice_of_a_victim_cannot_be_turned_away(cell: Cell, jail: Keeper) -> None:
    assert await cell.attempt("read_file", "/proc/self/oom_score_adj") == "1000\n"
    if jail.mode == "user" or not privileges.capabilities() & CAP_SYS_RESOURCE:
        pytest.skip("missing: only what a supervisor with CAP_SYS_RESOURCE has raised cannot be lowered again")
    assert (await refused(cell, "write_file", "/proc/self/oom_score_adj", "0")).errno == errno.EACCES


# network


async def test_the_hosts_loopback_is_not_its_loopback(cell: Cell, jail: Keeper) -> None:
    assert attempts.connect("127.0.0.1", jail.hello_port) == CANARY
    assert (await refused(cell, "connect", "127.0.0.1", jail.hello_port)).errno == errno.ECONNREFUSED


async def test_another_instances_loopback_is_not_its_loopback(supervisor: Supervisor, cell: Cell) -> None:
    other = await supervisor.start("other")
    await other.attempt("listen_on_loopback", 5432)
    await cell.attempt("listen_on_loopback", 5433)
    assert (await refused(cell, "connect", "127.0.0.1", 5432)).errno == errno.ECONNREFUSED


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "192.0.2.1", "1.1.1.1"])
async def test_no_packet_leaves_without_the_proxy_where_hosts_are_listed(listed: Cell, address: str) -> None:
    assert (await refused(listed, "connect", address, 80)).errno == errno.ENETUNREACH


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1"])
async def test_no_packet_leaves_to_what_is_not_on_the_internet(cell: Cell, address: str) -> None:
    assert (await refused(cell, "connect", address, 80)).errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}


async def test_no_address_can_be_added(cell: Cell) -> None:
    assert (await refused(cell, "add_address")).errno == errno.EPERM


async def test_no_name_server_can_be_asked_where_hosts_are_listed(listed: Cell) -> None:
    assert (await refused(listed, "resolve", "example.com")).error == "gaierror"


async def test_the_proxy_leads_where_the_operator_allows(cell: Cell, jail: Keeper) -> None:
    assert await cell.attempt("through_proxy", f"allowed.test:{jail.allowed_port}") == CANARY


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "100.100.100.200",
        "database.private.test",
        "metadata.google.internal",
    ],
)
async def test_the_proxy_refuses_what_is_not_on_the_internet(cell: Cell, jail: Keeper, host: str) -> None:
    refusal = await refused(cell, "through_proxy", f"{host}:{jail.hello_port}")
    assert "403" in str(refusal)
    assert "egress_refused" in str(refusal)


async def test_without_leave_there_is_no_network_at_all(supervisor: Supervisor, jail: Keeper) -> None:
    lonely = await supervisor.start("one", network="none")
    refusal = await refused(lonely, "through_proxy", f"allowed.test:{jail.allowed_port}")
    assert refusal.errno == errno.ECONNREFUSED
    assert "HTTPS_PROXY" not in await lonely.attempt("environment")


async def test_hosts_that_the_manifest_does_not_list_are_refused(listed: Cell, jail: Keeper) -> None:
    assert await listed.attempt("through_proxy", f"allowed.test:{jail.allowed_port}") == CANARY
    assert "403" in str(await refused(listed, "through_proxy", "example.com:443"))


@pytest.mark.skipif(not Path("/dev/net").is_dir(), reason="this machine has no such devices, as all tests show")
async def test_where_no_device_can_be_made_the_proxy_is_the_only_way_out(jail: Keeper) -> None:
    with keeper(jail.mode, world="tests.fakes.no_devices") as other:
        async with other.connect() as supervisor:
            assert supervisor.protections["user-mode network"].startswith("missing: ")
            cell = await supervisor.start("one")
            assert await cell.attempt("devices") == ["lo"]
            assert (await refused(cell, "connect", "192.0.2.1", 80)).errno == errno.ENETUNREACH
            assert (await refused(cell, "resolve", "example.com")).error == "gaierror"
            assert await cell.attempt("through_proxy", f"allowed.test:{other.allowed_port}") == CANARY


# sockets of the platform


@pytest.mark.parametrize("name", ["api_socket", "control_socket", "supervisor_socket"])
async def test_the_platforms_own_sockets_are_out_of_reach(cell: Cell, jail: Keeper, name: str) -> None:
    path = str(getattr(jail.home, name))
    assert attempts.connect_unix(path)
    assert (await refused(cell, "connect_unix", path)).errno == errno.ENOENT


async def test_the_journal_is_in_reach(cell: Cell) -> None:
    assert await cell.attempt("connect_unix", JOURNAL_SOCKET)


async def test_another_instances_socket_is_out_of_reach(supervisor: Supervisor, cell: Cell) -> None:
    other = await supervisor.start("other")
    assert attempts.connect_unix(other.info["socket"])
    assert (await refused(cell, "connect_unix", other.info["socket"])).errno == errno.ENOENT


async def test_an_abstract_socket_of_the_host_is_out_of_reach(cell: Cell) -> None:
    name = f"orchestrator-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        assert attempts.connect_unix(f"@{name}")
        assert (await refused(cell, "connect_unix", f"@{name}")).errno == errno.ECONNREFUSED
