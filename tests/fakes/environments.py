"""Environments of their own for tests of frameworks, whose packages cannot be installed beside the project's.

A test folder keeps its pins beside it: `requirements.in` (what is wanted; with `-r ../../fakes/environments.in`, which
holds pytest and coverage) and `requirements.lock`, written by

    .tools/uv/bin/uv pip compile tests/integration/NAME/requirements.in --python-version 3.11 --generate-hashes \\
        --no-annotate --no-header -o tests/integration/NAME/requirements.lock

Tests that need the framework are in files that pytest does not collect by itself (`cases_*.py`); a test in the
project's own environment runs them:

    @pytest.mark.parametrize("file", sorted(FOLDER.glob("cases_*.py")), ids=lambda file: file.stem)
    def test_in_its_own_environment(file: Path) -> None:
        run_tests(environment("NAME", FOLDER / "requirements.lock"), file)

There, `orchestrator_runtime` and `tests` are importable, and coverage is measured where `make test` asks for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".tools" / "test-environments"
UNSET = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV")


def environment(name: str, lock: Path) -> Path:
    """The Python of an environment with exactly what the lock names; built if there is none, whoever asks first.

    Kept below .tools, by name and the digest of the lock, until `make clean`.
    """
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = FOLDER / f"{name}-{digest}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # of several processes of a test run, one builds and the others wait
        if not (folder / ".complete").exists():
            _build(folder, lock)
    return folder / "bin" / "python"


def process_environment(**more: str) -> dict[str, str]:
    """The variables for a process in such an environment: this one's, but for what would change what it imports."""
    return {name: value for name, value in os.environ.items() if name not in UNSET} | more


def run_tests(python: Path, *files: Path) -> None:
    """Run test files with this Python; fails with what it printed.

    Warnings are not raised there: they are the frameworks', and not ours to mend.
    """
    options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=ignore"]
    options.append(f"--confcutdir={files[0].parent}")  # fixtures further up need what only the project's own has
    command = [str(python), "-m", "pytest", *options, *map(str, files)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=process_environment(),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        pytest.fail(done.stdout, pytrace=False)


def _build(folder: Path, lock: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "-q", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    _uv("pip", "install", "-q", "--python", python, "--require-hashes", "--compile-bytecode", "-r", str(lock))
    packages = next(folder.glob("lib/python*/site-packages"))
    # Before coverage's own .pth file, which starts the measurement and looks for the packages it measures.
    (packages / "a0_orchestrator.pth").write_text(f"{ROOT / 'functions'}\n")
    (folder / ".complete").touch()


def _uv(*arguments: str) -> None:
    own = ROOT / ".tools" / "uv" / "bin" / "uv"
    program = str(own) if own.exists() else str(Path(sys.executable).with_name("uv"))
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True, env=process_environment())
    if done.returncode:
        raise RuntimeError(f"uv {arguments[0]} failed:\n{done.stdout}{done.stderr}")
