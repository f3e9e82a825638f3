"""A keeper process (tests/fakes/sandbox_keeper.py) with an environment and agents, and instances to try things in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from domain.home import Home
from orchestrator_runtime.contract.instance import RUNTIME_PATH
from orchestrator_runtime.contract.wire import Handler, Message, Peer, connect

CHECKOUT = Path(__file__).parents[3]
USER = 54_321  # nobody's account
ORGANIZATION = "org-1"
CANARY = "canary-7f3a91"  # stands for everything that must not be found
MEBIBYTE = 1024 * 1024
PATIENCE = 30.0  # seconds until a test that hangs fails
LIMITS = {
    "memory_bytes": 96 * MEBIBYTE,
    "cpu": 1.0,
    "processes": 24,
    "open_files": 64,
    "scratch_bytes": 4 * MEBIBYTE,
    "scratch_files": 100,
}
Mode = Literal["root", "user"]


class Refused(Exception):  # noqa: N818 - reads as what happened
    """What an attempt inside an instance met."""

    def __init__(self, error: str, number: int | None, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error = error
        self.errno = number


class Ended(Exception):  # noqa: N818
    """The instance ended during the attempt."""


@dataclass(slots=True)
class Keeper:
    """A running keeper. `hello_port`: a server of the host on every address that says `CANARY`."""

    mode: Mode
    home: Home
    hello_port: int
    allowed_port: int
    process: subprocess.Popen[bytes]
    shared: dict[str, Any] | None = None  # an instance that many tests use

    @property
    def environment(self) -> Path:
        return self.home.environments(ORGANIZATION) / "plain"

    @property
    def site_packages(self) -> Path:
        return next((self.environment / "lib").glob("python*/site-packages"))

    def source(self, agent: str, organization: str = ORGANIZATION) -> Path:
        return self.home.sources(organization) / agent

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Supervisor]:
        supervisor = Supervisor(self)
        handlers: dict[str, Handler] = {
            "instance.credentials": supervisor.credentials,
            "instance.exited": supervisor.exited,
            "instance.ready": lambda peer, message: supervisor.ready.append(message.fields["instance"]),
            "sandbox.output": lambda peer, message: supervisor.output.append(message.body),
        }
        supervisor.peer = await connect(str(self.home.supervisor_socket), handlers)
        reply = await supervisor.peer.call("subscribe", {"role": "server"})
        supervisor.protections = reply.fields["protections"]
        try:
            yield supervisor
        finally:
            for cell in supervisor.cells:
                await supervisor.peer.call("instance.stop", {"instance": cell.id, "grace": 0})
            supervisor.peer.close()


@dataclass(slots=True)
class Supervisor:
    """One connection to supervisor.sock, in the role of the server."""

    keeper: Keeper
    peer: Peer = field(init=False)
    protections: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    exits: dict[str, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    ready: list[str] = field(default_factory=list)
    output: list[bytes] = field(default_factory=list)

    def credentials(self, peer: Peer, message: Message) -> Message:
        secrets = {name: f"value of {name}" for name in message.fields["secrets"]}
        return Message({"journal_token": f"token of {message.fields['instance']}", "expires": 2e9, "secrets": secrets})

    def exited(self, peer: Peer, message: Message) -> None:
        self.exit_of(message.fields["instance"]).set_result(message.fields)

    def exit_of(self, instance: str) -> asyncio.Future[dict[str, Any]]:
        return self.exits.setdefault(instance, asyncio.get_running_loop().create_future())

    async def shared(self) -> Cell:
        """The one instance that stays, started by the first who asks."""
        if self.keeper.shared is None:
            self.keeper.shared = (await self.start()).info
            self.cells.clear()
        return Cell(self, self.keeper.shared)

    async def start(
        self,
        agent: str = "one",
        *,
        organization: str = ORGANIZATION,
        network: str | list[str] = "internet",
        secrets: tuple[str, ...] = (),
        entrypoint: str = "agent:run",
        start_timeout: float = PATIENCE,
        **limits: float,
    ) -> Cell:
        """A fresh instance of an agent. Raises the problem that it failed with."""
        keeper = self.keeper
        start = {
            "agent": agent,
            "version": "v",
            "framework": "plain",
            "entrypoint": entrypoint,
            "limits": {**LIMITS, **limits},
            "concurrency": 0,
            "timeout": 60.0,
            "grace": 1.0,
            "payload_limit": 1,
            "network": network,
            "env": {"AGENT": agent},
        }
        environment = keeper.environment
        fields = {
            "organization": organization,
            "revision": f"{agent}-00001",
            "environment": {"digest": "plain", "path": str(environment), "python": str(environment / "bin/python")},
            "source": str(keeper.source(agent)),
            "start": start,
            "start_timeout": start_timeout,
            "secrets": list(secrets),
        }
        reply = await asyncio.wait_for(self.peer.call("instance.start", fields), PATIENCE)
        cell = Cell(self, reply.fields)
        self.cells.append(cell)
        return cell


@dataclass(slots=True)
class Cell:
    """An instance that makes attempts."""

    supervisor: Supervisor
    info: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.info["instance"])

    @property
    def pid(self) -> int:
        """Its number outside."""
        return int(self.info["pid"])

    async def attempt(self, name: str, *arguments: object) -> Any:
        """What the attempt got. Raises `Refused`, or `Ended` if it took the instance down."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self.info["socket"], limit=4 * MEBIBYTE)
            try:
                writer.write(json.dumps({"attempt": name, "arguments": arguments}).encode() + b"\n")
                line = await reader.readline()
            except ConnectionError as error:
                raise Ended from error
            finally:
                writer.close()
        if not line:
            raise Ended
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["errno"], answer["detail"])
        return answer["value"]

    async def ending(self) -> dict[str, Any]:
        """What the supervisor says about its end."""
        return await asyncio.wait_for(self.supervisor.exit_of(self.id), PATIENCE)


@contextlib.contextmanager
def keeper(mode: Mode, *, allow: Sequence[str] = (), world: str | None = None) -> Iterator[Keeper]:
    """A keeper started as root, or as an ordinary user: as one by this process if it is root, else by itself.

    `allow`: what may be reached besides the server at `allowed_port`, as host:port. `world`: a module that starts it.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orc-")))
        home = Home(folder / "home")
        _make_home(home)
        port, allowed = (stack.enter_context(_says_hello()) for _ in range(2))
        argv = [sys.executable, "-m", "tests.fakes.sandbox_keeper", str(home.root)]
        if mode == "user" and os.geteuid() == 0:
            _give(folder, USER)
            argv = [sys.executable, "-m", "tests.fakes.ordinary_user", str(USER), *argv]
        if world is not None:
            argv = [sys.executable, "-m", world, *argv]
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "functions"))),
            "ORCHESTRATOR_EGRESS_ALLOW": " ".join((f"allowed.test:{allowed}", *allow)),
            "KEEPERS_SECRET": CANARY,
        }
        process = stack.enter_context(subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, cwd="/"))
        stack.callback(process.terminate)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Keeper(mode, home, port, allowed, process)


def _make_home(home: Home) -> None:
    home.make()
    for path in (home.database, home.master_key, home.owner_token):
        path.write_text(CANARY)
        path.chmod(0o600)
    for agent in ("one", "other"):
        source = home.sources(ORGANIZATION) / agent
        source.mkdir(parents=True)
        (source / "agent.py").write_text("def run(input): return input\n")
    (source / "private.txt").write_text(CANARY)
    environment = home.environments(ORGANIZATION) / "plain"
    venv.create(environment, symlinks=True, with_pip=False)
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    (site_packages / "orchestrator.pth").write_text(RUNTIME_PATH + "\n")
    for name in ("attempts.py", "escape_server.py"):
        shutil.copy(Path(__file__).with_name(name), site_packages)


def _give(folder: Path, uid: int) -> None:
    os.chown(folder, uid, uid)
    for parent, names, files in os.walk(folder):
        for name in (*names, *files):
            os.chown(Path(parent, name), uid, uid, follow_symlinks=False)


@contextlib.contextmanager
def _says_hello() -> Iterator[int]:
    """A server of the host, on all its addresses, that gives the canary to whoever connects."""
    with socket.create_server(("0.0.0.0", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed: the tests are over
                    return
                with connection:
                    connection.sendall(CANARY.encode())

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
