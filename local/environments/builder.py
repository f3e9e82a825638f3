"""The Builder port on this machine: from what a folder declares to a complete environment.

    declared ─(input digest)→ lock ─(lock digest)→ environment

Both arrows are taken once: a lock is kept by the digest of everything that decides it, an environment by the digest of
its lock. Called by the control API's deployments. What runs in which sandbox is decided in `commands`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from importlib import metadata
from pathlib import Path
from weakref import WeakValueDictionary

from builders import dependencies, resolver
from builders.dependencies import Declared
from builders.locks import Artifact, Lock, Package, hashes_of, keep_allowed, normal, read_pylock, write
from domain.clock import Clock
from domain.deployment import BuildRequest, Environment
from domain.home import Home
from local.environments import indexes
from local.environments.commands import CONSTRAINTS, LOCK, PROJECT, REQUIREMENTS, Commands
from local.environments.folders import Folders, read_output
from local.environments.interpreters import Interpreter, Interpreters
from local.environments.sandbox import Sandbox
from local.sandbox.spec import SandboxSpec
from orchestrator_runtime.contract.errors import TimedOut

RUNTIME = "orchestrator-runtime"
KEPT_LINES = 400
AT_ONCE = 2  # programs in sandboxes: one that compiles takes all the cores it gets
FORMAT = 1  # part of every lock digest: raise it when environments have to be made anew

Log = Callable[[str], None]


class Environments:
    """Implements `domain.ports.Builder`. `operator` is the server's environment, for its index settings."""

    def __init__(
        self,
        *,
        home: Home,
        sandbox: Sandbox,
        interpreters: Interpreters,
        uv: str,
        operator: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._home = home
        self._sandbox = sandbox
        self._interpreters = interpreters
        self._uv = uv
        self._operator = operator
        self._clock = clock
        self._runtime = tuple(line for line in metadata.requires(RUNTIME) or () if "extra ==" not in line)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def clear_unfinished(self) -> None:
        """Remove what a crash left; called once, before the first build."""
        organizations = self._home.organization("x").parent
        for folder in organizations.iterdir() if organizations.is_dir() else ():
            Folders(self._home, folder.name).clear_unfinished()

    async def build(self, request: BuildRequest, *, log: Log) -> Environment:
        """See `domain.ports.Builder`."""
        declared = await asyncio.to_thread(dependencies.read, request.source)
        interpreter = await self._interpreters.find(declared.requires_python)
        index = indexes.configure(self._operator, secrets=request.secrets, declared=declared.indexes)
        folders = Folders(self._home, request.organization)
        input_digest = declared.digest(interpreter.version, interpreter.platform, self._runtime, index.facts)
        try:
            await asyncio.to_thread(folders.make)
            async with self._alone(request.organization, input_digest):
                lock = folders.read_lock(input_digest)
                if lock is None:
                    async with _build_folder(folders) as folder:
                        commands = self._commands(request, folders, folder, interpreter, index)
                        lock = await self._resolve(declared, commands, log)
                    folders.write_lock(input_digest, lock)
                    log(f"Resolved {len(lock.packages)} packages for Python {interpreter.version}")
            dependencies.check_framework(request.framework, lock.names, declared)
            digest = lock.digest(FORMAT, interpreter.python, interpreter.version, interpreter.platform)
            async with self._alone(request.organization, digest):
                return await self._environment(request, folders, lock, digest, interpreter, index, log)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise resolver.disk_full() from error
            raise

    async def _environment(
        self,
        request: BuildRequest,
        folders: Folders,
        lock: Lock,
        digest: str,
        interpreter: Interpreter,
        index: indexes.Indexes,
        log: Log,
    ) -> Environment:
        existing = folders.read_environment(digest)
        if existing is not None:
            return existing
        async with _build_folder(folders) as folder:
            commands = self._commands(request, folders, folder, interpreter, index)
            wheels = {
                package.name: await self._build_wheel(package, commands, log)
                for package in lock.packages
                if package.must_be_built
            }
            lines = [package.installed_from(wheels.get(package.name)) for package in lock.packages]
            (commands.inputs / REQUIREMENTS).write_text("\n".join(lines) + "\n")
            into = folders.new / folder.name
            try:
                code, said = await self._run(commands.install(into), log)
                if code:
                    raise resolver.build_failed("Installing the packages", said)
                facts = {
                    "python": interpreter.version,
                    "packages": [package.pinned().split()[0] for package in lock.packages],
                }
                environment = await asyncio.to_thread(folders.complete, digest, into, facts)
                log(f"Installed {len(lock.packages)} packages")
                return environment
            finally:
                await _remove(into)

    async def _resolve(self, declared: Declared, commands: Commands, log: Log) -> Lock:
        """The lock. Wheels alone are tried first: that runs no code of a package, and may use the shared cache."""
        if declared.uv_lock is not None:
            declared = await self._export(declared, commands, log)
        _write(commands.inputs / REQUIREMENTS, "\n".join((*declared.requirements, *self._runtime)) + "\n")
        _write(commands.inputs / CONSTRAINTS, "\n".join(declared.constraints) + "\n")
        code, said = await self._run(commands.resolve(from_source=False), None)
        if code and not resolver.is_unreachable(said):
            code, said = await self._run(commands.resolve(from_source=True), None)
        if code:
            if code != resolver.UNSATISFIABLE and not resolver.is_unreachable(said):  # those say all in one line
                for line in said:
                    log(line)
            raise resolver.resolution_failed(code, said)
        text = read_output(commands.outputs / LOCK)
        if text is None:
            raise resolver.build_failed("Resolving the dependencies", ["error: uv wrote no lock"])
        return keep_allowed(read_pylock(text), hashes_of(declared.requirements))

    async def _export(self, declared: Declared, commands: Commands, log: Log) -> Declared:
        assert declared.uv_lock is not None
        for name, content in zip(("pyproject.toml", "uv.lock"), declared.uv_lock, strict=True):
            _write(commands.inputs / PROJECT / name, content)
        code, said = await self._run(commands.export(), log)
        text = read_output(commands.outputs / REQUIREMENTS)
        if code or text is None:
            raise resolver.resolution_failed(code, said)
        return dependencies.exported(declared, text)

    async def _build_wheel(self, package: Package, commands: Commands, log: Log) -> Artifact:
        """Build one package where nothing is shared, and take the wheel out of there."""
        log(f"Building {package.name} {package.version} from source")
        _write(commands.inputs / package.name / LOCK, write([package]))
        outputs = commands.outputs / package.name
        outputs.mkdir()
        code, said = await self._run(commands.build(package.name), log)
        if code:
            raise resolver.build_failed(f"Building {package.name} from source", said)
        return await asyncio.to_thread(_take_wheel, package.name, outputs, commands.inputs / "wheels")

    async def _run(self, spec: SandboxSpec, log: Log | None) -> tuple[int, list[str]]:
        """Run one step; returns its exit code and its last lines. Raises `TimedOut` (`build_timeout`)."""
        lines = _Lines(log)
        async with self._slots:
            started = self._clock.monotonic()
            code = await self._sandbox.run(spec, output=lines.take)
        lines.end()
        if code < 0 and spec.timeout is not None and self._clock.monotonic() - started >= spec.timeout:
            raise TimedOut(
                f"The build was not done after {spec.timeout:g} s",
                code="build_timeout",
                hint="Use versions of the packages that come as wheels.",
            )
        return code, lines.kept

    def _commands(
        self, request: BuildRequest, folders: Folders, folder: Path, interpreter: Interpreter, index: indexes.Indexes
    ) -> Commands:
        return Commands(
            request.organization, self._uv, interpreter, index, folder / "inputs", folder / "outputs", folders.cache
        )

    @contextlib.asynccontextmanager
    async def _alone(self, organization: str, digest: str) -> AsyncIterator[None]:
        """One at a time for equal work; who waited finds it done."""
        key = (organization, digest)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            yield


class _Lines:
    """Cuts output into clean lines, hands them on and keeps the last ones."""

    def __init__(self, log: Log | None) -> None:
        self.kept: list[str] = []
        self._log = log
        self._rest = b""

    def take(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._line(line)
        self._rest = self._rest[-65536:]

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        text = resolver.clean(line)
        self.kept.append(text)
        del self.kept[:-KEPT_LINES]
        if self._log is not None:
            self._log(text)


@contextlib.asynccontextmanager
async def _build_folder(folders: Folders) -> AsyncIterator[Path]:
    """A folder with `inputs` and `outputs`, gone afterwards."""
    folder = folders.builds / secrets.token_hex(8)
    for name in ("inputs", "outputs"):
        (folder / name).mkdir(parents=True)
    try:
        yield folder
    finally:
        await _remove(folder)


async def _remove(folder: Path) -> None:
    """Remove a tree, also when the build was cancelled meanwhile."""
    await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _take_wheel(name: str, outputs: Path, into: Path) -> Artifact:
    """Copy the wheel that uv left in its private cache. The build could write anything there, links included."""
    found = [
        Path(folder, file)
        for folder, _, files in os.walk(outputs / "cache")
        for file in files
        if file.endswith(".whl") and normal(file.partition("-")[0]) == name
    ]
    wheels = [file for file in found if file.is_file() and not file.is_symlink()]
    if not wheels:
        raise resolver.build_failed(f"Building {name} from source", ["error: the build made no wheel"])
    into.mkdir(exist_ok=True)
    copy = into / wheels[0].name
    shutil.copyfile(wheels[0], copy, follow_symlinks=False)
    with copy.open("rb") as file:
        return Artifact(copy.as_uri(), hashlib.file_digest(file, "sha256").hexdigest())
