"""The programs that a build runs, as sandbox specs: which of them sees what is the whole of a build's security.

| step | may run code of packages | cache of the organization | network |
|---|---|---|---|
| export, resolve, install | no: wheels only, and `-S` for the last compile | resolve, install: writable | proxy |
| resolve and build from source | yes | not there at all | proxy |

Pure: values in, specs out. Paths are the same inside and outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local.environments import finish
from local.environments.indexes import Indexes
from local.environments.interpreters import Interpreter
from local.sandbox.spec import Bind, SandboxSpec, interpreter_binds
from orchestrator_runtime.contract.instance import RUNTIME_PATH, Limits

LOCK = "pylock.toml"
REQUIREMENTS = "requirements.txt"
CONSTRAINTS = "constraints.txt"
PROJECT = "project"
RESOLVE_SECONDS = 180.0
BUILD_SECONDS = 900.0
LIMITS = Limits(
    memory_bytes=4 * 2**30, cpu=16.0, processes=512, open_files=8192, scratch_bytes=2 * 2**30, scratch_files=200_000
)
INSTALL = """
"$1" venv --quiet --relocatable --python "$2" "$3" || exit
set -- "$@" --no-build --no-deps --require-hashes --link-mode hardlink --python "$3/bin/python" --requirements "$4"
uv=$1 python=$2 site=$5 archives=$6 runtime=$7 finish=$8
shift 8
"$uv" pip install --quiet --offline "$@" 2>/dev/null || "$uv" pip install "$@" || exit
exec "$python" -I -S -c "$finish" "$site" "$archives" "$runtime"
"""


@dataclass(frozen=True, slots=True)
class Commands:
    """The steps of one build. `inputs` is read-only inside, `outputs` belongs to it, `cache` is the organization's."""

    organization: str
    uv: str
    interpreter: Interpreter
    indexes: Indexes
    inputs: Path
    outputs: Path
    cache: Path

    def export(self) -> SandboxSpec:
        """uv.lock → outputs/requirements.txt."""
        argv = ("export", "--frozen", "--no-dev", "--no-emit-project", "--no-annotate", "--no-header", "--quiet")
        where = ("--project", str(self.inputs / PROJECT), "--output-file", str(self.outputs / REQUIREMENTS))
        python = ("--python", self.interpreter.python, "--format", "requirements.txt")
        return self._uv(*argv, *where, *python, cache=self.outputs / "cache", seconds=RESOLVE_SECONDS)

    def resolve(self, *, from_source: bool) -> SandboxSpec:
        """Requirements → outputs/pylock.toml. Packages without wheels have to be built to know what they require."""
        argv = ["pip", "compile", "--quiet", "--format", LOCK, "--output-file", str(self.outputs / LOCK)]
        argv += ["--python", self.interpreter.python, "--constraints", str(self.inputs / CONSTRAINTS)]
        argv += [str(self.inputs / REQUIREMENTS)]
        if from_source:
            return self._uv(*argv, cache=self.outputs / "cache", seconds=BUILD_SECONDS)
        return self._uv(*argv, "--no-build", cache=self.cache / "uv", shared=True, seconds=RESOLVE_SECONDS)

    def build(self, name: str) -> SandboxSpec:
        """The one package of inputs/NAME/pylock.toml → a wheel somewhere in outputs/NAME/cache."""
        outputs = self.outputs / name
        argv = ("pip", "install", "--no-deps", "--target", str(outputs / "target"), "--python", self.interpreter.python)
        lock = ("--requirements", str(self.inputs / name / LOCK), "--preview-features", "pylock")
        return self._uv(*argv, *lock, cache=outputs / "cache", seconds=BUILD_SECONDS, outputs=outputs)

    def install(self, into: Path) -> SandboxSpec:
        """inputs/requirements.txt with hashes → a complete environment at `into`, in the cache's folder."""
        version = ".".join(self.interpreter.version.split(".")[:2])
        site = into / "lib" / f"python{version}" / "site-packages"
        script = Path(finish.__file__).read_text()
        paths = (self.uv, self.interpreter.python, into, self.inputs / REQUIREMENTS, site, self.cache / "uv/archive-v0")
        argv = ("/bin/sh", "-c", INSTALL, "install", *map(str, paths), RUNTIME_PATH, script)
        return self._spec(argv, cache=self.cache / "uv", shared=True, seconds=BUILD_SECONDS, outputs=None)

    def _uv(
        self, *arguments: str, cache: Path, seconds: float, shared: bool = False, outputs: Path | None = None
    ) -> SandboxSpec:
        return self._spec(
            (self.uv, *arguments), cache=cache, seconds=seconds, shared=shared, outputs=outputs or self.outputs
        )

    def _spec(
        self, argv: tuple[str, ...], *, cache: Path, seconds: float, shared: bool, outputs: Path | None
    ) -> SandboxSpec:
        writable = ([self.cache] if shared else []) + ([outputs] if outputs else [])
        binds = [
            Bind(self.uv, self.uv),
            *interpreter_binds(self.interpreter.python),
            *self.indexes.binds,
            Bind(str(self.inputs), str(self.inputs)),
            *(Bind(str(folder), str(folder), read_only=False) for folder in writable),
        ]
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/tmp",  # noqa: S108 - the sandbox's own
            "UV_CACHE_DIR": str(cache),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            **self.indexes.environ,
        }
        return SandboxSpec(
            organization=self.organization,
            argv=argv,
            limits=LIMITS,
            env=environ,
            cwd=str(self.inputs),
            binds=tuple(binds),
            network="proxy",
            timeout=seconds,
        )
