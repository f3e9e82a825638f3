"""Environments built by uv in real sandboxes, through the supervisor, from a package index of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from uv import find_uv_bin

from builders import locks
from domain.clock import SystemClock
from domain.deployment import BuildRequest, Environment
from domain.manifest import Framework
from local.environments.builder import Environments
from local.environments.folders import Folders
from local.environments.interpreters import Interpreters
from local.environments.remote import SupervisorSandbox
from local.sandbox.spec import SandboxSpec
from orchestrator_runtime.contract.errors import Problem
from orchestrator_runtime.contract.wire import Peer, connect
from tests.fakes.package_index import PackageIndex, package_index, source, wheel
from tests.integration.sandbox.cells import CANARY, Keeper, keeper

RUNTIME = ("httptools", "pydantic", "uvloop")

# A build back end that takes the wheel it was given, and tells what it could see of the machine.
BACKEND = """
import os, pathlib
NAME = "{name}-{version}-py3-none-any.whl"
def seen():
    found = []
    for path in {paths!r}:
        try:
            found.append(pathlib.Path(path).read_text()[:20])
        except OSError as error:
            found.append(error.strerror)
    return found
def build_wheel(folder, settings=None, metadata=None):
    import zipfile
    with zipfile.ZipFile(pathlib.Path(folder, NAME), "w") as archive:
        archive.writestr("{name}.py", "SEEN = " + repr(seen()) + "\\nCACHE = " + repr(os.environ.get("UV_CACHE_DIR")))
        info = "{name}-{version}.dist-info/"
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "RECORD", "")
    return NAME
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sdist(name: str, version: str, *, paths: tuple[str, ...] = (), backend: str = BACKEND) -> tuple[str, bytes]:
    text = backend.replace("{name}", name).replace("{version}", version).replace("{paths!r}", repr(paths))
    project = f'[project]\nname = "{name}"\nversion = "{version}"\n' + PROJECT
    return source(name, version, backend_dot_py=text, pyproject_dot_toml=project)


@pytest.fixture(scope="module")
def index() -> Iterator[PackageIndex]:
    with package_index() as served:
        yield served


@pytest.fixture
def jail(index: PackageIndex) -> Iterator[Keeper]:
    allow = [f"packages.test:{index.port}"]
    with keeper("root" if os.geteuid() == 0 else "user", allow=allow) as running:
        yield running


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory: pytest.TempPathFactory) -> Interpreters:
    """Finding one takes a second, and it does not change."""
    return Interpreters(uv=find_uv_bin(), downloads=tmp_path_factory.mktemp("interpreters"))


@dataclass(slots=True)
class Counting:
    """The supervisor's sandbox; which steps were run in it, and how many at once. Cleared, `hold` makes them wait."""

    inner: SupervisorSandbox
    runs: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    before_install: Callable[[], None] = lambda: None
    busy: int = 0
    most_busy: int = 0

    async def run(self, spec: SandboxSpec, *, output: Callable[[bytes], None]) -> int:
        words = ["install"] if "install" in spec.argv and spec.argv[0] == "/bin/sh" else list(spec.argv[1:3])
        self.runs.append(" ".join(words))
        if words == ["install"]:
            self.before_install()
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            await self.hold.wait()
            return await self.inner.run(spec, output=output)
        finally:
            self.busy -= 1


@dataclass(slots=True)
class World:
    index: PackageIndex
    jail: Keeper
    organization: str
    folder: Path
    environments: Environments
    sandbox: Counting
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://packages.test:{self.index.port}/simple"

    def declare(self, *requirements: str, name: str = "agent", **files: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text)
        return folder

    async def build(
        self, folder: Path, *, framework: Framework = Framework.PLAIN, secrets: Mapping[str, str] | None = None
    ) -> Environment:
        request = BuildRequest(self.organization, "v", str(folder), framework, secrets or {})
        return await asyncio.wait_for(self.environments.build(request, log=self.said.append), 60)

    async def failure(self, folder: Path, **rest: object) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.build(folder, **rest)  # type: ignore[arg-type]
        return caught.value


@pytest.fixture
async def world(index: PackageIndex, jail: Keeper, interpreters: Interpreters, tmp_path: Path) -> AsyncIterator[World]:
    """An organization that has built nothing yet; the index holds what the runtime itself requires."""
    index.files.clear()
    index.asked.clear()
    index.password, index.down = "", False
    index.add(*(wheel(name, "99.0") for name in RUNTIME))
    peers: list[Peer] = []

    async def peer() -> Peer:
        if not peers:
            peers.append(await connect(str(jail.home.supervisor_socket), sandbox.inner.handlers))
        return peers[0]

    sandbox = Counting(SupervisorSandbox(peer))
    sandbox.hold.set()
    environments = Environments(
        home=jail.home,
        sandbox=sandbox,
        interpreters=interpreters,
        uv=find_uv_bin(),
        operator={"UV_DEFAULT_INDEX": f"http://packages.test:{index.port}/simple", "UV_HTTP_RETRIES": "1"},
        clock=SystemClock(),
    )
    yield World(index, jail, f"org-{uuid.uuid4().hex[:8]}", tmp_path, environments, sandbox)
    for connected in peers:
        connected.close()
    await asyncio.sleep(0)


def evaluate(environment: Environment, expression: str) -> str:
    """What an expression is in the environment's own Python."""
    argv = [environment.python, "-I", "-c", f"import sys; print({expression})"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


async def test_what_a_folder_requires_is_installed_with_what_the_runtime_requires(world: World) -> None:
    world.index.add(wheel("demo", "1.0", requires=["helper>=2"]), wheel("helper", "2.1"), wheel("helper", "1.0"))
    environment = await world.build(world.declare("demo"))
    assert evaluate(environment, "__import__('demo').VERSION, __import__('helper').VERSION") == "1.0 2.1"
    assert evaluate(environment, "__import__('httptools').VERSION") == "99.0"
    assert Path(environment.path).parent == world.jail.home.environments(world.organization)
    assert any("Resolved 5 packages" in line for line in world.said)
    assert any(path.suffix == ".pyc" for path in Path(environment.path).rglob("demo*"))


async def test_unchanged_input_is_neither_resolved_nor_installed_again(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    folder = world.declare("demo")
    first = await world.build(folder)
    world.sandbox.runs.clear()
    (folder / "agent.py").write_text("a change of code only")
    world.index.asked.clear()
    assert await world.build(folder) == first
    assert (world.sandbox.runs, world.index.asked) == ([], [])


async def test_another_declaration_with_the_same_lock_uses_the_same_environment(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    first = await world.build(world.declare("demo", name="one"))
    world.sandbox.runs.clear()
    assert await world.build(world.declare("demo>=0.5", name="other")) == first
    assert world.sandbox.runs == ["pip compile"]


async def test_equal_builds_at_the_same_time_do_the_work_once(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    folder = world.declare("demo")
    built = await asyncio.gather(*(world.build(folder) for _ in range(4)))
    assert len(set(built)) == 1
    assert sorted(world.sandbox.runs) == ["install", "pip compile"]


async def test_two_steps_run_at_once_and_what_is_there_already_waits_for_none(world: World) -> None:
    world.index.add(wheel("demo", "1.0"), wheel("demo", "2.0"), wheel("demo", "3.0"), wheel("demo", "4.0"))
    there = world.declare("demo==1.0", name="there")
    await world.build(there)
    world.sandbox.hold.clear()
    builds = [asyncio.create_task(world.build(world.declare(f"demo=={n}.0", name=f"new-{n}"))) for n in (2, 3, 4)]
    while world.sandbox.busy < 2:
        await asyncio.sleep(0)
    await world.build(there)
    world.sandbox.hold.set()
    await asyncio.gather(*builds)
    assert world.sandbox.most_busy == 2


async def test_organizations_share_no_environment(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    folder = world.declare("demo")
    first = await world.build(folder)
    if world.jail.mode == "user":
        pytest.skip("missing: only root can give each organization a uid of its own, so there is one only")
    world.organization += "-b"
    second = await world.build(folder)
    assert (first.digest, first.path == second.path) == (second.digest, False)


async def test_what_cannot_be_resolved_is_said_in_the_resolvers_words(world: World) -> None:
    world.index.add(wheel("demo", "1.0", requires=["helper>=2"]), wheel("helper", "2.1"), wheel("helper", "1.0"))
    problem = await world.failure(world.declare("demo", "helper<2"))
    assert (problem.status, problem.code) == (422, "dependencies_unresolvable")
    assert "demo depend on helper>=2" in " ".join(problem.extra["resolver"].split())


async def test_an_index_that_does_not_answer_is_another_problem_and_gone_with_its_cause(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    world.index.down = True
    problem = await world.failure(world.declare("demo"))
    assert (problem.status, problem.code) == (503, "index_unreachable")
    assert "503 Service Unavailable" in problem.detail
    assert world.sandbox.runs == ["pip compile"]
    world.index.down = False
    assert evaluate(await world.build(world.declare("demo")), "__import__('demo').VERSION") == "1.0"


async def test_an_index_that_goes_away_between_two_steps_is_the_same_problem(world: World) -> None:
    world.index.add(wheel("demo", "1.0"), wheel("demo", "2.0"))
    world.sandbox.before_install = lambda: setattr(world.index, "down", True)
    assert (await world.failure(world.declare("demo"))).code == "index_unreachable"


async def test_a_package_that_is_not_there_is_named(world: World) -> None:
    problem = await world.failure(world.declare("no-such-package"))
    assert problem.code == "dependencies_unresolvable"
    assert "no-such-package" in problem.detail


async def test_the_manifests_framework_must_be_required(world: World) -> None:
    problem = await world.failure(world.declare(), framework=Framework.LANGGRAPH)
    assert problem.code == "framework_missing"


async def test_a_python_that_no_machine_has_is_refused_with_the_reason(world: World) -> None:
    folder = world.declare(pyproject_toml='[project]\nrequires-python = ">=3.99"\ndependencies = []\n')
    problem = await world.failure(folder)
    assert problem.code == "python_unavailable"
    assert ">=3.99" in problem.detail
    assert problem.detail.count("\n") >= 1  # and why none could be fetched
    assert world.sandbox.runs == []


async def test_a_package_without_a_wheel_is_built_where_nothing_of_others_is(world: World) -> None:
    home = world.jail.home
    cache = str(home.cache(world.organization))
    paths = (str(home.owner_token), str(home.database), f"{cache}/uv/CACHEDIR.TAG", "/proc/1/root/etc/shadow")
    world.index.add(sdist("native", "1.0", paths=paths))
    environment = await world.build(world.declare("native"))
    seen = evaluate(environment, "__import__('native').SEEN")
    assert CANARY not in seen
    assert seen.count("No such file or directory") == len(paths)
    assert not evaluate(environment, "__import__('native').CACHE").startswith(cache)
    assert any("Building native 1.0 from source" in line for line in world.said)


async def test_a_build_that_fails_is_told_with_what_it_said(world: World) -> None:
    backend = "def build_wheel(*arguments, **named):\n    raise SystemExit('the compiler is missing')\n"
    world.index.add(sdist("native", "1.0", backend=backend))
    problem = await world.failure(world.declare("native"))
    assert problem.code in {"build_failed", "dependencies_unresolvable"}
    assert "the compiler is missing" in problem.detail
    assert list(world.jail.home.environments(world.organization).iterdir()) == []


async def test_a_private_index_is_reached_with_the_organizations_secret(world: World) -> None:
    world.index.password = "s3cret-word"
    world.index.add(wheel("demo", "1.0"))
    secrets = {"UV_INDEX_URL": f"http://user:s3cret-word@packages.test:{world.index.port}/simple", "OTHER": "x"}
    folder = world.declare("demo")
    refused = await world.failure(folder)
    assert refused.code == "dependencies_unresolvable"
    environment = await world.build(folder, secrets=secrets)
    assert evaluate(environment, "__import__('demo').VERSION") == "1.0"
    kept = Folders(world.jail.home, world.organization)
    texts = [*world.said, *(path.read_text() for path in kept.lock("x").parent.iterdir())]
    assert not any("s3cret-word" in text for text in texts)


async def test_a_lock_of_the_folder_is_followed_and_other_files_are_refused(world: World) -> None:
    file, content = wheel("demo", "1.0")
    world.index.add((file, content), wheel("demo", "2.0"))
    digest = hashlib.sha256(content).hexdigest()
    pinned = locks.write([locks.Package("demo", "1.0", (locks.Artifact(f"{world.address}/{file}", digest),))])
    environment = await world.build(world.declare("demo", pylock_toml=pinned))
    assert evaluate(environment, "__import__('demo').VERSION") == "1.0"
    altered = world.declare("demo==1.0", name="altered", pylock_toml=pinned.replace(digest, "0" * 64))
    assert (await world.failure(altered)).code == "lock_hash_mismatch"


async def test_a_hostile_wheel_cannot_replace_what_makes_an_environment_ours(world: World) -> None:
    world.index.add(wheel("demo", "1.0", demo="", orchestrator=""))
    environment = await world.build(world.declare("demo"))
    site_packages = next(Path(environment.path, "lib").glob("python*/site-packages"))
    assert (site_packages / "orchestrator.pth").read_text() == "/opt/orchestrator/runtime\n"


async def test_what_a_crash_left_is_removed_and_complete_environments_stay(world: World) -> None:
    world.index.add(wheel("demo", "1.0"))
    environment = await world.build(world.declare("demo"))
    folders = Folders(world.jail.home, world.organization)
    (folders.builds / "half").mkdir(parents=True, exist_ok=True)
    (folders.new / "half").mkdir(parents=True, exist_ok=True)
    world.environments.clear_unfinished()
    assert not folders.builds.exists() or list(folders.builds.iterdir()) == []
    assert not folders.new.exists()
    assert folders.read_environment(environment.digest) == environment
    assert folders.read_environment("other") is None


async def test_a_build_that_nobody_waits_for_leaves_nothing(world: World) -> None:
    backend = "import time\ndef build_wheel(*arguments, **named):\n    time.sleep(600)\n"
    world.index.add(sdist("native", "1.0", backend=backend))
    building = asyncio.ensure_future(world.build(world.declare("native")))
    async with asyncio.timeout(60):
        while not any("native" in path for path in world.index.asked) or len(world.sandbox.runs) < 2:
            await asyncio.sleep(0.01)
    building.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await building
    assert list(Folders(world.jail.home, world.organization).builds.iterdir()) == []
