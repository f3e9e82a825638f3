"""A warm process per (organization, environment), and instances forked from it: the supervisor's side.

The other side is `orchestrator_runtime/zygote.py`, inside the sandbox. A zygote is evicted, and started again after it
died, by the supervisor; its instances die with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from local.sandbox.confinement import Confinement, Held
from local.sandbox.datagrams import close_all, receive, send
from local.sandbox.device import Devices
from local.sandbox.process import Ending, SandboxProcess, start
from local.sandbox.spec import Bind, SandboxSpec, interpreter_binds, runtime_bind
from orchestrator_runtime.contract.errors import Problem, Unavailable
from orchestrator_runtime.contract.instance import SCRATCH_PATH, ForkRequest, InstanceStart, Limits
from orchestrator_runtime.contract.sandbox.mounts import detached_mount
from orchestrator_runtime.contract.sandbox.namespaces import host_pid

logger = logging.getLogger("sandbox.zygote")

SOCKET_VARIABLE = "ORCHESTRATOR_ZYGOTE_FD"
MODULE = "orchestrator_runtime.zygote"

# Instances are moved out of their zygote's group; until then, and while importing, this is what it may use.
LIMITS = Limits(
    memory_bytes=2 * 1024**3,
    cpu=64.0,
    processes=32768,
    open_files=65536,
    scratch_bytes=64 * 1024**2,
    scratch_files=4096,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a zygote is made from. `uid`: see `OrganizationUids`; `binds` are for all its instances (journal.sock)."""

    organization: str
    uid: int | None
    environment: str  # folder, read-only inside at its own path
    python: str  # its interpreter
    preload: tuple[str, ...]  # names of frameworks
    binds: tuple[Bind, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    server: str | None = None  # another module with `serve`; for tests


@dataclass(frozen=True, slots=True)
class ForkedInstance:
    """An instance's process. The caller closes `pidfd` and `device`, and calls `release` once it has ended."""

    pid: int
    pidfd: int
    held: Held
    device: int | None  # see `device`; None without a user-mode network

    def out_of_memory(self) -> bool:
        return self.held.out_of_memory()

    def release(self) -> None:
        self.held.release()


class Zygote:
    """A zygote that is ready to fork. `ready` is what it said then: preload_ms, modules, missing."""

    def __init__(self, process: SandboxProcess, end: socket.socket, *, confinement: Confinement) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self._end = end
        self._confinement = confinement
        self._forking: dict[str, asyncio.Future[int]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._one_by_one = asyncio.Lock()
        self._berth: asyncio.Task[Held] | None = None  # the hold on the next instance, and on the zygote until then

    @classmethod
    async def start(
        cls,
        origin: Origin,
        *,
        confinement: Confinement,
        limits: Limits = LIMITS,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Zygote:
        """Start one and wait until it has imported everything.

        Raises `Unavailable`: `sandbox_failed`, or `zygote_failed` with what it printed last if nobody else reads that.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                spec = zygote_spec(origin, limits=limits, descriptor=theirs.fileno())
                process = await start(
                    spec, confinement=confinement, pass_fds=[theirs.fileno()], stdout=stdout, stderr=stderr
                )
            except BaseException:
                ours.close()
                raise
        zygote = cls(process, ours, confinement=confinement)
        try:
            data, _ = await receive(ours)
        except BaseException:
            zygote.kill()
            ours.close()
            raise
        if not data:
            raise await zygote._failure()
        zygote.ready = json.loads(data)
        zygote._listening = asyncio.ensure_future(zygote._listen())
        zygote._berth = asyncio.ensure_future(zygote._move_on(None))
        return zygote

    async def fork(
        self,
        start: InstanceStart,
        *,
        listen: int,
        control: int,
        source: str,
        stdout: int,
        stderr: int,
        devices: Devices | None = None,
    ) -> ForkedInstance:
        """Fork an instance that has `source` at /app. The descriptors stay the caller's.

        Returns when the instance is told what it is; it says on `control` that it is ready. It is born within its
        limits: the zygote is there already, and moves on afterwards, because the kernel lets nobody move quickly.

        `devices`: what gives it a user-mode network, if this machine has them and it may reach the internet.
        Raises `Unavailable` (`zygote_gone`, `fork_failed`).
        """
        try:
            folder = detached_mount(source)
        except OSError as error:
            raise _fork_failed(f"its folder cannot be mounted: {error}") from error
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            try:
                with theirs:
                    descriptors = [listen, control, folder, stdout, stderr, theirs.fileno()]
                    pidfd, held = await self._fork(start, descriptors)
            finally:
                os.close(folder)
            making = devices.make(pidfd) if devices is not None and start.network == "internet" else None
            pid = host_pid(pidfd)
            held.watch(pid, pidfd)
            device = await _made(making) if making is not None else None
            try:
                with contextlib.suppress(ConnectionError):  # it has ended already, as its descriptor tells who waits
                    await asyncio.get_running_loop().sock_sendall(ours, start.to_json())
            except asyncio.CancelledError:
                if device is not None:
                    os.close(device)  # or its network would stay
                raise
        return ForkedInstance(pid, pidfd, held, device)

    def kill(self) -> None:
        """End it, and every instance that was forked from it."""
        self.process.kill()

    async def wait(self) -> Ending:
        """How it ended; instances have ended too."""
        return await self.process.wait()

    async def _fork(self, start: InstanceStart, descriptors: Sequence[int]) -> tuple[int, Held]:
        """The descriptor of the instance's process, and what holds it."""
        async with self._one_by_one:
            if self._berth is None:
                raise _gone()
            await asyncio.wait([self._berth])  # whoever is cancelled here leaves it for the next one
            held = None
            try:
                with _limiting():
                    held = self._berth.result()
                    held.limit(start.limits)
                request = ForkRequest(start.instance, start.limits, start.network != "none", held.cpus)
                return await self._ask(request, descriptors), held
            except BaseException:
                if held is not None:
                    held.release()
                raise
            finally:
                self._berth = asyncio.ensure_future(self._move_on(held))

    async def _move_on(self, left: Held | None) -> Held:
        """Have the zygote held as its next instance will be. Raises `OSError`."""
        name = f"fork-{secrets.token_hex(4)}"
        return await self._confinement.hold_next(name, LIMITS, parent=self.process.pid, before=left)

    async def _leave_berth(self) -> None:
        async with self._one_by_one:
            berth, self._berth = self._berth, None
            if berth is not None:
                with contextlib.suppress(OSError):  # it had moved nowhere
                    (await berth).release()

    async def _ask(self, request: ForkRequest, descriptors: Sequence[int]) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forking[request.instance] = answer
        try:
            await send(self._end, request.to_json(), descriptors)
            return await answer
        except ConnectionError as error:
            raise _gone() from error
        except OSError as error:
            raise _fork_failed(f"its environment's process cannot be asked: {error}") from error
        except asyncio.CancelledError:
            # Whether it was forked or not: it reads an empty start, and ends.
            answer.add_done_callback(_close_unwanted)
            raise
        finally:
            if answer.done():
                self._forking.pop(request.instance, None)

    async def _listen(self) -> None:
        """Take what the zygote says until it ends."""
        while True:
            data, descriptors = await receive(self._end)
            if not data:
                break
            message = json.loads(data)
            answer = self._forking.pop(message.get("instance", ""), None)
            if answer is None or answer.done():
                close_all(descriptors)
            elif message["event"] == "forked":
                answer.set_result(descriptors[0])
            else:
                answer.set_exception(_fork_failed(message.get("detail", "no reason given")))
        for answer in self._forking.values():
            if not answer.done():
                answer.set_exception(_gone())
        self._forking.clear()
        self._end.close()
        await self._leave_berth()

    async def _failure(self) -> Unavailable:
        """Why it ended before it was ready."""
        self._end.close()
        errors = await self.process.stderr.read() if self.process.stderr else b""
        ending = await self.process.wait()
        reason = "used too much memory" if ending.out_of_memory else f"ended with code {ending.code}"
        return Unavailable(
            f"The environment's process {reason} while it was importing",
            code="zygote_failed",
            hint="One of the environment's packages cannot be imported; see the log.",
            log=errors.decode(errors="replace").splitlines()[-12:],
        )


def zygote_spec(origin: Origin, *, limits: Limits, descriptor: int) -> SandboxSpec:
    """The sandbox of a zygote."""
    server = ("--server", origin.server) if origin.server else ()
    return SandboxSpec(
        organization=origin.organization,
        argv=(origin.python, "-P", "-m", MODULE, *server, *origin.preload),
        limits=limits,
        uid=origin.uid,
        env={
            "PATH": f"{origin.environment}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": SCRATCH_PATH,
            "TMPDIR": SCRATCH_PATH,
            "LANG": "C.UTF-8",
            "VIRTUAL_ENV": origin.environment,
            "OPENBLAS_NUM_THREADS": "1",  # its pool would be threads before the fork
            "PYTHONDONTWRITEBYTECODE": "1",  # everything is read-only
            SOCKET_VARIABLE: str(descriptor),
            **dict(origin.env),
        },
        binds=(
            Bind(origin.environment, origin.environment),
            *interpreter_binds(origin.python),
            runtime_bind(),
            *origin.binds,
        ),
        forks_instances=True,
    )


@contextlib.contextmanager
def _limiting() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError as error:
        raise _gone() from error
    except OSError as error:
        raise _fork_failed(f"it cannot be limited: {error}") from error


async def _made(making: asyncio.Future[int]) -> int | None:
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_close_unwanted)
        raise
    except OSError as error:  # it has ended already, or it starts without: the proxy is always there
        logger.warning("An instance has no user-mode network: %s", error)
        return None


def _close_unwanted(answer: asyncio.Future[int]) -> None:
    if not answer.cancelled() and answer.exception() is None:
        os.close(answer.result())


def _gone() -> Problem:
    return Unavailable("The environment's process has gone", code="zygote_gone", hint="It is started again: try again.")


def _fork_failed(reason: str) -> Problem:
    return Unavailable(f"The instance cannot be started: {reason}", code="fork_failed")
