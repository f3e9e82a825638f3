"""Starts a sandbox and watches over it: the supervisor's side of `launch`.

Builds use it directly, zygotes through `zygote`. The sandboxed program is a child of this process, and dies with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import local
from local.sandbox.confinement import Confinement, Held
from local.sandbox.datagrams import close_all, readable, receive
from local.sandbox.launch import Order
from local.sandbox.spec import SandboxSpec
from orchestrator_runtime import contract
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.sandbox.namespaces import host_pid

# Where the launcher finds its two packages; it starts without site-packages, which saves half of its time.
IMPORT_PATH = (str(Path(local.__file__).parents[1]), str(Path(contract.__file__).parents[2]))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a sandboxed program ended. `code` is negative for a signal, as `subprocess` has it."""

    code: int
    out_of_memory: bool


class SandboxProcess:
    """A running sandbox. `stdout` and `stderr` are there unless the caller gave descriptors for them.

    `egress` is the listening socket in its network if the spec has one; whoever takes it accepts on it and closes it.
    """

    def __init__(self, pid: int, pidfd: int, *, held: Held, egress: socket.socket | None) -> None:
        self.pid = pid
        self.egress = egress
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._pidfd = pidfd
        self._held = held
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.ensure_future(self._bury())

    async def wait(self) -> Ending:
        """How it ended; may be awaited by many, and again."""
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        """End it and everything that it started; it is gone when `wait` returns."""
        if not self._ended.done():
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def end_after(self, seconds: float) -> None:
        """Kill it when it has not ended by then."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self.kill)

    async def _bury(self) -> Ending:
        await readable(self._pidfd)
        status = _reap(self._pidfd)
        if self._timer is not None:
            self._timer.cancel()
        exited = status.si_code == os.CLD_EXITED
        code = status.si_status if exited else -status.si_status
        ending = Ending(code, out_of_memory=self._held.out_of_memory())
        self._held.release()
        os.close(self._pidfd)
        return ending


async def start(
    spec: SandboxSpec,
    *,
    confinement: Confinement,
    pass_fds: Sequence[int] = (),
    stdout: int | None = None,
    stderr: int | None = None,
) -> SandboxProcess:
    """Start `spec`. The program inherits `pass_fds` under their own numbers.

    As root, writable folders of the spec are given to the organization's uid. Raises `Unavailable` (`sandbox_failed`)
    with the reason if the sandbox or the program cannot be started. Cancelling it ends what was started.
    """
    starting = asyncio.ensure_future(
        _start(spec, confinement=confinement, pass_fds=pass_fds, stdout=stdout, stderr=stderr)
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_kill_unwanted)
        raise


def _kill_unwanted(started: asyncio.Future[SandboxProcess]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().kill()


async def _start(
    spec: SandboxSpec, *, confinement: Confinement, pass_fds: Sequence[int], stdout: int | None, stderr: int | None
) -> SandboxProcess:
    try:
        held = confinement.hold(f"{Path(spec.argv[0]).name}-{secrets.token_hex(4)}", spec.limits)
    except OSError as error:
        raise _failed(spec, str(error)) from error
    try:
        _give_writable_folders(spec)
        launcher, report = _launch(Order(spec, held.entrances, held.cpus), pass_fds, stdout, stderr)
        with report:
            pidfd, egress = await _hear(report, spec)
        launcher.wait()  # it ended before its report did
    except OSError as error:
        held.release()
        raise _failed(spec, str(error)) from error
    except Unavailable:
        held.release()
        raise
    pid = host_pid(pidfd)
    held.watch(pid, pidfd)
    process = SandboxProcess(pid, pidfd, held=held, egress=egress)
    process.stdout, process.stderr = await _reader(launcher.stdout), await _reader(launcher.stderr)
    if spec.timeout is not None:
        process.end_after(spec.timeout)
    return process


def _give_writable_folders(spec: SandboxSpec) -> None:
    if spec.uid is None:
        return
    for bind in spec.binds:
        if not bind.read_only and Path(bind.host).is_dir():
            os.chown(bind.host, spec.uid, spec.uid)


def _launch(
    order: Order, pass_fds: Sequence[int], stdout: int | None, stderr: int | None
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the launcher; it reports over the socket, which ends when the program has started or nothing has."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    written = os.memfd_create("order")
    os.write(written, order.to_json())
    os.lseek(written, 0, os.SEEK_SET)
    try:
        launcher = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "local.sandbox.launch", str(written), str(theirs.fileno())],
            env={"PYTHONPATH": os.pathsep.join(IMPORT_PATH)},
            pass_fds=(written, theirs.fileno(), *pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
        )
    finally:
        theirs.close()
        os.close(written)
    return launcher, ours


async def _hear(report: socket.socket, spec: SandboxSpec) -> tuple[int, socket.socket | None]:
    """The program's descriptor and its way out, once it runs."""
    descriptors: list[int] = []
    while True:
        data, more = await receive(report)
        descriptors += more
        message = json.loads(data) if data else {}
        if data and message["event"] == "forked":
            continue
        if data or not descriptors:
            if descriptors:
                _reap(descriptors[0])
            close_all(descriptors)
            raise _failed(spec, message.get("detail", "the launcher died"))
        pidfd, *egress = descriptors
        return pidfd, socket.socket(fileno=egress[0]) if egress else None


def _reap(pidfd: int) -> os.waitid_result:
    """The exit status of a child that has ended, or is just about to."""
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert status is not None  # only with WNOHANG
    return status


def _failed(spec: SandboxSpec, detail: str) -> Unavailable:
    return Unavailable(
        f"{spec.argv[0]} cannot be started in a sandbox: {detail}",
        code="sandbox_failed",
        hint="`orchestrator describe` says which protections this machine offers.",
    )


async def _reader(pipe: IO[bytes] | None) -> asyncio.StreamReader | None:
    if pipe is None:
        return None
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader
