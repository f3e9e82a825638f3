"""User-mode networks: what leads out of an instance for programs that ignore its proxy.

An instance has a device from its start (`local.sandbox.device`), which costs no process. Only when the first frame
waits there, slirp4netns is started for it, in a sandbox like everything else but in the host's network, without a
descriptor of the instance's network or a privilege in it. It gets frames over a socket, from the gateway's relay
(`local.egress.relay`), which lets through what may leave; so the supervisor hands the gateway both ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local.sandbox import process
from local.sandbox.confinement import Confinement
from local.sandbox.datagrams import readable
from local.sandbox.device import MTU
from local.sandbox.protections import slirp4netns
from local.sandbox.spec import Bind, SandboxSpec
from local.supervisor.egress import EgressOffers
from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.instance import Limits

logger = logging.getLogger("supervisor.user_networks")

INSIDE = "/run/network"
SOCKET = "frames"
RESOLVER = "/etc/resolv.conf"
PAUSE = 1.0  # seconds between the end of a slirp4netns and the next one for the same instance
LONGEST_PAUSE = 60.0  # where none can be started

# Of one slirp4netns: each connection takes a descriptor and up to 256 KiB.
LIMITS = Limits(memory_bytes=64 * 1024**2, cpu=1.0, processes=4, open_files=1024, scratch_bytes=4096, scratch_files=16)


@dataclass(frozen=True, slots=True)
class _Network:
    instance: str
    organization: str
    uid: int | None  # of the organization's sandboxes, if we are root
    device: int


class UserNetworks:
    """The user-mode networks of this machine's instances. `folder` is where their sockets appear for a moment."""

    def __init__(self, folder: Path, *, confinement: Confinement, egress: EgressOffers) -> None:
        self._folder = folder
        self._confinement = confinement
        self._egress = egress
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        shutil.rmtree(folder, ignore_errors=True)  # of a supervisor that was killed

    def begin(self, instance: str, organization: str, *, uid: int | None, device: int) -> None:
        """Serve an instance's device, which is ours from now on."""
        network = _Network(instance, organization, uid, device)
        self._serving[instance] = asyncio.create_task(self._serve(network))

    def end(self, instance: str) -> None:
        """The instance has gone."""
        serving = self._serving.pop(instance, None)
        if serving is not None:
            serving.cancel()
            self._ending.add(serving)
            serving.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        """End all of them."""
        for instance in list(self._serving):
            self.end(instance)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _serve(self, network: _Network) -> None:
        """One slirp4netns after the other, until cancelled."""
        pause = PAUSE
        try:
            while True:
                await readable(network.device)
                try:
                    await self._run(network)
                    pause = PAUSE
                except (Unavailable, OSError) as error:  # the proxies still work: say why, and try again
                    logger.warning("%s has no user-mode network: %s", network.instance, error)
                    pause = min(pause * 2, LONGEST_PAUSE)
                await asyncio.sleep(pause)
        finally:
            os.close(network.device)

    async def _run(self, network: _Network) -> None:
        """Start a slirp4netns, let the gateway use it, and wait for its end."""
        slirp = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="", dir=self._folder) as folder:  # a socket's path must be short
                slirp = await process.start(_spec(network, folder), confinement=self._confinement)
                frames = await _connect(slirp, Path(folder, SOCKET))
            self._egress.offer_device(
                network.instance,
                organization=network.organization,
                device=os.dup(network.device),
                slirp=frames.detach(),
            )
            logger.info("%s has a user-mode network", network.instance)
            await _silence(slirp)
            ending = await slirp.wait()
            logger.warning("slirp4netns of %s ended with code %s", network.instance, ending.code)
        finally:
            if slirp is not None:
                slirp.kill()
                self._egress.withdraw_device(network.instance)
                await slirp.wait()


def _spec(network: _Network, folder: str) -> SandboxSpec:
    program = slirp4netns()
    if program is None:
        raise Unavailable("slirp4netns is no longer installed", code="sandbox_failed")
    resolver = (Bind(RESOLVER, RESOLVER),) if Path(RESOLVER).exists() else ()
    options = ("--target-type=bess", "--disable-host-loopback", "--enable-seccomp", f"--mtu={MTU}")
    return SandboxSpec(
        organization=network.organization,
        argv=(program, *options, f"{INSIDE}/{SOCKET}"),
        limits=LIMITS,
        uid=network.uid,
        binds=(Bind(folder, INSIDE, read_only=False), *resolver),
        network="host",
    )


async def _connect(slirp: process.SandboxProcess, path: Path) -> socket.socket:
    """The socket that it takes frames from. It says something once it listens."""
    assert slirp.stderr is not None
    frames = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    frames.setblocking(False)
    said = b""
    while data := await slirp.stderr.read(4096):
        said += data
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):  # not yet
            frames.connect(str(path))
            return frames
    frames.close()
    raise Unavailable(f"slirp4netns does not start: {said.decode(errors='replace').strip()}", code="sandbox_failed")


async def _silence(slirp: process.SandboxProcess) -> None:
    """Read what it prints until it ends: nobody needs it, and it must not wait for a reader."""
    async with asyncio.TaskGroup() as tasks:
        for stream in (slirp.stderr, slirp.stdout):
            if stream is not None:
                tasks.create_task(_read_away(stream))


async def _read_away(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass
