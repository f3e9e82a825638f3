"""Starts and ends instances: one `Instance` per sandboxed process, from its socket to the last line it printed.

Called by the supervisor's control socket. Whether an instance should exist is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from domain.clock import Clock
from local.supervisor.egress import EgressOffers
from local.supervisor.logs import LogFor, OutputReader
from local.supervisor.sockets import listen_unix
from orchestrator_runtime.contract.errors import AgentError, Problem, TimedOut, from_document
from orchestrator_runtime.contract.instance import InstanceStart

logger = logging.getLogger("supervisor.instances")

DATAGRAM_BYTES = 256 * 1024
TAIL_LINES = 12

State = Literal["starting", "ready", "stopping", "gone"]
Reason = Literal["exited", "killed", "out_of_memory", "stopped"]


class Forked(Protocol):
    """A sandboxed process, by a descriptor that stays valid when its number is used again."""

    @property
    def pid(self) -> int: ...

    @property
    def pidfd(self) -> int: ...

    def out_of_memory(self) -> bool:
        """Whether it was killed for its memory; asked after it has gone."""
        ...

    def release(self) -> None:
        """Give back what the sandbox holds; called once, after it has gone."""
        ...


class Forker(Protocol):
    """What `Sandboxes` does for instances."""

    async def fork(
        self,
        start: InstanceStart,
        *,
        environment: Mapping[str, Any],
        source: str,
        listen: int,
        control: int,
        stdout: int,
        stderr: int,
    ) -> Forked:
        """Fork an instance from the warm zygote of its environment. Raises `Problem`."""
        ...

    def ended(self, start: InstanceStart, environment: Mapping[str, Any]) -> None:
        """An instance has gone."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an instance may know, from the server."""

    journal_token: str
    expires: float  # seconds since the epoch
    secrets: dict[str, str]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What the gateway asks for. `start`: the members of `InstanceStart` that all instances of a revision share."""

    organization: str
    revision: str
    environment: dict[str, Any]
    source: str
    start: dict[str, Any]
    start_timeout: float
    secrets: list[str]


@dataclass(slots=True)
class Instance:
    id: str
    request: StartRequest
    address: Path
    call_token: str
    started_at: float
    state: State = "starting"
    forked: Forked | None = None
    start: InstanceStart | None = None
    control: socket.socket | None = None
    ready: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    gone: asyncio.Future[dict[str, Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    has_egress: bool = False
    token_expires: float = 0.0
    tail: list[str] = field(default_factory=list)
    kill_reason: Reason | None = None

    def info(self) -> dict[str, Any]:
        """`InstanceInfo` of docs/internals.md."""
        return {
            "instance": self.id,
            "organization": self.request.organization,
            "agent": self.request.start["agent"],
            "revision": self.request.revision,
            "environment": self.request.environment["digest"],
            "socket": str(self.address),
            "call_token": self.call_token,
            "pid": self.forked.pid if self.forked else None,
            "state": self.state,
            "started_at": self.started_at,
        }


class Instances:
    """All instances of this machine.

    `announce(operation, fields)` tells server and gateway.
    """

    def __init__(
        self,
        *,
        folder: Path,
        forker: Forker,
        credentials: Callable[[str, StartRequest], Awaitable[Credentials]],
        announce: Callable[[str, dict[str, Any]], None],
        egress: EgressOffers,
        log_for: LogFor,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._forker = forker
        self._credentials = credentials
        self._announce = announce
        self._egress = egress
        self._log_for = log_for
        self._clock = clock
        self._instances: dict[str, Instance] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self) -> list[Instance]:
        return list(self._instances.values())

    async def start(self, request: StartRequest) -> Instance:
        """Start one instance and return it when it is ready.

        Raises the problem it failed with: its own (`entrypoint_…`), `instance_exited` or `start_timeout`.
        """
        instance = self._new(request)
        try:
            await asyncio.wait_for(self._fork(instance), request.start_timeout)
            outcome = await asyncio.wait_for(asyncio.shield(instance.ready), request.start_timeout)
        except TimeoutError:
            await self._kill(instance, "killed")
            raise TimedOut(
                f"The agent was not ready after {request.start_timeout:g} s",
                code="start_timeout",
                hint="Do less when the module is imported, or raise timeouts.start in agent.yaml.",
                log=instance.tail[-TAIL_LINES:],
            ) from None
        except BaseException:  # whatever stopped the start, nothing of it may stay behind
            await self._kill(instance, "killed")
            raise
        if "problem" in outcome:
            await self._kill(instance, "killed")
            problem = from_document(outcome["problem"])
            problem.extra.setdefault("log", instance.tail[-TAIL_LINES:])
            raise problem
        instance.state = "ready"
        self._announce("instance.ready", instance.info())
        return instance

    async def stop(self, instance_id: str, *, grace: float) -> None:
        """Ask an instance to finish what it does and go; kill it after `grace` seconds. Unknown ids are gone."""
        instance = self._instances.get(instance_id)
        if instance is None:
            return
        instance.state = "stopping"
        instance.kill_reason = instance.kill_reason or "stopped"
        if instance.control is not None and grace > 0:
            _tell(instance.control, {"event": "drain"})
            try:
                await asyncio.wait_for(asyncio.shield(instance.gone), grace)
            except TimeoutError:  # it had its time
                pass
            else:
                return
        await self._kill(instance, "stopped")

    async def stop_all(self, *, grace: float) -> None:
        await asyncio.gather(*(self.stop(instance_id, grace=grace) for instance_id in list(self._instances)))

    async def renew_tokens(self, *, older_than: float) -> None:
        """Give every instance whose journal token expires before then (seconds since the epoch) a fresh one."""
        for instance in self.all():
            if instance.control is None or instance.state != "ready" or instance.token_expires > older_than:
                continue
            credentials = await self._credentials(instance.id, dataclasses.replace(instance.request, secrets=[]))
            instance.token_expires = credentials.expires
            _tell(instance.control, {"event": "token", "journal_token": credentials.journal_token})

    def _new(self, request: StartRequest) -> Instance:
        unique = secrets.token_hex(4)
        instance = Instance(
            id=f"{request.revision}-{unique}",
            request=request,
            address=self._folder / f"{unique}.sock",
            call_token=secrets.token_urlsafe(24),
            started_at=self._clock.now().timestamp(),
        )
        self._instances[instance.id] = instance
        return instance

    async def _fork(self, instance: Instance) -> None:
        request = instance.request
        credentials = await self._credentials(instance.id, request)
        instance.token_expires = credentials.expires
        network = request.start.get("network", "internet")
        start = InstanceStart.from_json(
            json.dumps(
                {
                    **request.start,
                    "network": network if isinstance(network, str) else "hosts",
                    "instance": instance.id,
                    "organization": request.organization,
                    "revision": request.revision,
                    "call_token": instance.call_token,
                    "journal_token": credentials.journal_token,
                    "secrets": credentials.secrets,
                }
            ).encode()
        )
        instance.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        instance.control.setblocking(False)
        outputs = [os.pipe(), os.pipe()]
        listening = listen_unix(instance.address)
        try:
            instance.forked = await self._forker.fork(
                start,
                environment=request.environment,
                source=request.source,
                listen=listening.fileno(),
                control=theirs.fileno(),
                stdout=outputs[0][1],
                stderr=outputs[1][1],
            )
            instance.start = start
        finally:
            listening.close()
            theirs.close()
            os.close(outputs[0][1])
            os.close(outputs[1][1])
            log = self._log_for(request.organization, request.revision)
            readers = [
                OutputReader(
                    pipe[0], stream=stream, instance=instance.id, log=log, clock=self._clock, tail=instance.tail
                )
                for pipe, stream in zip(outputs, ("stdout", "stderr"), strict=True)
            ]
        loop = asyncio.get_running_loop()
        loop.add_reader(instance.control.fileno(), self._heard, instance)
        loop.add_reader(instance.forked.pidfd, self._exited, instance, readers)

    def _heard(self, instance: Instance) -> None:
        """A datagram from the instance, or its end."""
        assert instance.control is not None
        try:
            data, fds, _, _ = socket.recv_fds(instance.control, DATAGRAM_BYTES, 1)
        except BlockingIOError:  # another wake-up took it
            return
        except OSError:
            data, fds = b"", []  # the other end is gone; the pidfd tells the rest
        if not data:
            asyncio.get_running_loop().remove_reader(instance.control.fileno())
            return
        try:
            message = json.loads(data)
            event = str(message["event"])
        except (
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
        ):  # user code shares that process and may write nonsense: ignore it
            for fd in fds:
                os.close(fd)
            return
        if event == "egress" and fds and not instance.has_egress:
            instance.has_egress = True
            network = instance.request.start.get("network", "internet")
            organization = instance.request.organization
            self._egress.offer(instance.id, organization=organization, network=network, listening=fds.pop())
        elif event in {"ready", "failed"} and not instance.ready.done():
            instance.ready.set_result(message)
        for fd in fds:
            os.close(fd)

    def _exited(self, instance: Instance, readers: list[OutputReader]) -> None:
        """The process has gone: its pidfd became readable."""
        assert instance.forked is not None
        asyncio.get_running_loop().remove_reader(instance.forked.pidfd)
        task = asyncio.create_task(self._bury(instance, readers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, instance: Instance, readers: list[OutputReader]) -> None:
        """Wait for the last output, give everything back, and tell the others."""
        assert instance.forked is not None
        # A program that the agent started may have kept the pipe; its namespace is dead, so the end comes at once.
        await asyncio.wait([reader.ended for reader in readers], timeout=1.0)
        for reader in readers:
            reader.close()
        reason: Reason = instance.kill_reason or "exited"
        if instance.forked.out_of_memory():
            reason = "out_of_memory"
        instance.forked.release()
        os.close(instance.forked.pidfd)
        if instance.start is not None:
            self._forker.ended(instance.start, instance.request.environment)
        self._forget(instance)
        fields = {**instance.info(), "reason": reason, "log": instance.tail[-TAIL_LINES:]}
        if not instance.ready.done():
            instance.ready.set_result({"problem": _exit_problem(instance, reason).document()})
        if not instance.gone.done():
            instance.gone.set_result(fields)
        self._announce("instance.exited", fields)

    def _forget(self, instance: Instance) -> None:
        self._instances.pop(instance.id, None)
        instance.state = "gone"
        instance.address.unlink(missing_ok=True)
        if instance.control is not None:
            asyncio.get_running_loop().remove_reader(instance.control.fileno())
            instance.control.close()
            instance.control = None
        self._egress.withdraw(instance.id)

    async def _kill(self, instance: Instance, reason: Reason) -> None:
        instance.kill_reason = instance.kill_reason or reason
        if instance.forked is None:
            self._forget(instance)
            return
        if not instance.gone.done():
            try:
                signal.pidfd_send_signal(instance.forked.pidfd, signal.SIGKILL)
            except (ProcessLookupError, OSError):  # it went by itself in the meantime
                logger.debug("%s had gone already", instance.id)
            await asyncio.shield(instance.gone)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError as error:  # it is gone or does not read: the kill after the grace period settles it
        logger.debug("an instance did not take %s: %s", message["event"], error)


def _exit_problem(instance: Instance, reason: Reason) -> Problem:
    if reason == "out_of_memory":
        return AgentError(
            "The agent used more memory than it may while it was loading",
            code="out_of_memory",
            hint="Raise resources.memory in agent.yaml.",
            log=instance.tail[-TAIL_LINES:],
        )
    return AgentError(
        "The agent's process ended before it was ready",
        code="instance_exited",
        hint="See the log; the module must not exit or kill its process when it is imported.",
        log=instance.tail[-TAIL_LINES:],
    )
