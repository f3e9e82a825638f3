"""A forked instance before any code of its agent runs: isolated, within its limits, and told what it is.

Called by `zygote` in the first process of new namespaces. In this order: who it is, its view (source, scratch,
processes, network), its limits, its privileges, its descriptors; only then it reads its `InstanceStart`, which the
supervisor sends when it holds this process. Then it is the server's.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.instance import (
    FD_CONTROL,
    FD_LISTEN,
    FD_SOURCE,
    FD_START,
    FD_STDERR,
    FD_STDOUT,
    SCRATCH_PATH,
    SOURCE_PATH,
    ForkRequest,
    InstanceStart,
)
from orchestrator_runtime.contract.sandbox import limits, mounts, namespaces, network, privileges, seccomp

SERVER = "orchestrator_runtime.server"
CHUNK = 256 * 1024
PORT = "8080"  # Knative's default
FAILED = 70  # exit status of an instance that could not be isolated or told what it is
_LISTEN, _CONTROL, _START = 3, 4, 5  # the only descriptors that are left besides the standard ones


def run(
    request: ForkRequest, descriptors: Sequence[int], *, user: tuple[int, int], server: str, keep: Sequence[str]
) -> NoReturn:
    """Become the instance. Never returns.

    `user`: uid and gid of the zygote. `keep`: what is mounted below the scratch folder and must stay there.
    """
    control = socket.socket(fileno=os.dup(descriptors[FD_CONTROL]))
    try:
        namespaces.map_only(*user)
        _take_view(request, descriptors, control, keep=keep)
        _take_limits(request)
        control.detach()
        _take_descriptors(descriptors)
        control = socket.socket(fileno=_CONTROL)
        start = _told()
        _take_environment(start, has_network=request.network)
    except BaseException as error:  # noqa: BLE001 - a process border: the supervisor hears of it, then it is over
        _report(control, error)
        _leave(FAILED)
    try:
        listen = socket.socket(fileno=_LISTEN)
        importlib.import_module(server).serve(start, listen=listen, control=control)
    except SystemExit as error:
        _leave(error.code if isinstance(error.code, int) else 1)
    except BaseException:  # noqa: BLE001 - a process border: below us is the zygote's code
        traceback.print_exc()
        _leave(1)
    _leave(0)


def _take_view(
    request: ForkRequest, descriptors: Sequence[int], control: socket.socket, *, keep: Sequence[str]
) -> None:
    mounts.attach(descriptors[FD_SOURCE], SOURCE_PATH)
    size, files = request.limits.scratch_bytes, request.limits.scratch_files
    mounts.cover_with_tmpfs(SCRATCH_PATH, size=size, inodes=files, keep=keep)
    mounts.mount_proc("/proc")
    network.bring_loopback_up()
    if request.network:
        with network.listen_for_egress() as egress:
            socket.send_fds(control, [b'{"event": "egress"}'], [egress.fileno()])


def _take_limits(request: ForkRequest) -> None:
    os.setsid()
    limits.be_first_to_go()
    limits.hold_to_cpus(request.cpus)
    limits.apply(request.limits)
    privileges.drop_capabilities()
    privileges.forbid_new_privileges()
    seccomp.install()


def _take_descriptors(descriptors: Sequence[int]) -> None:
    """Standard output and error, the listening socket, the control socket, the start; nothing else stays open."""
    wanted = (FD_STDOUT, FD_STDERR, FD_LISTEN, FD_CONTROL, FD_START)
    # Moved out of the way first: a number that is written to below may be one that is still needed.
    away = [fcntl.fcntl(descriptors[index], fcntl.F_DUPFD_CLOEXEC, _START + 1) for index in wanted]
    for descriptor, target in zip(away, (1, 2, _LISTEN, _CONTROL, _START), strict=True):
        os.dup2(descriptor, target, inheritable=target <= 2)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number > _START:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _told() -> InstanceStart:
    """Read the start to its end; what follows happens under the supervisor's hold."""
    with socket.socket(fileno=_START) as told:
        data = b"".join(iter(lambda: told.recv(CHUNK), b""))
    if not data:
        raise ConnectionError("the supervisor went away before it said what to run")
    return InstanceStart.from_json(data)


def _take_environment(start: InstanceStart, *, has_network: bool) -> None:
    os.environ.update(network.proxy_environment() if has_network else {})
    os.environ.update(start.env)
    os.environ.update(start.secrets)
    os.environ.update(_described(start))
    sys.path.insert(0, SOURCE_PATH)
    os.chdir(SOURCE_PATH)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _mix_in_randomness()
    gc.enable()


def _described(start: InstanceStart) -> dict[str, str]:
    """What Knative's runtime contract names. Nothing listens at that port: calls come over a socket of ours."""
    return {"PORT": PORT, "K_SERVICE": start.agent, "K_CONFIGURATION": start.agent, "K_REVISION": start.revision}


def _mix_in_randomness() -> None:
    """OpenSSL notices a fork by a new process number, and every instance has number 1, as its zygote has."""
    if "ssl" in sys.modules:
        seed = os.urandom(32)
        sys.modules["ssl"].RAND_add(seed, len(seed))


def _report(control: socket.socket, error: BaseException) -> None:
    traceback.print_exception(error)
    problem = (
        error
        if isinstance(error, Problem)
        else Unavailable(f"The instance could not be isolated: {error}", code="sandbox_failed")
    )
    try:
        control.send(json.dumps({"event": "failed", "problem": problem.document()}).encode())
    except OSError:  # the supervisor is gone, and so are we
        return


def _leave(code: int) -> NoReturn:
    """End this process here: the frames above us are the zygote's."""
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - what the agent registered has a right to run; sys.exit would unwind
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
