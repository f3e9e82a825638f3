"""Finds the Python that an agent's `requires-python` asks for: one of the machine's, else one that uv downloads.

Runs only the operator's own interpreters and uv, and nothing that came from a user but a version specifier.
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builders.resolver import clean, words
from orchestrator_runtime.contract.errors import Unprocessable

PLACES = ("/usr/local/bin", "/usr/bin", "~/.pyenv/versions/*/bin", "/opt/python*/bin")
ASK = """
import json, os, sys, sysconfig
print(json.dumps([os.path.realpath(sys.executable), sys.version.split()[0], sysconfig.get_platform()]))
"""
DOWNLOAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`python` is the program, `version` all of its version, `platform` such as linux-x86_64."""

    python: str
    version: str
    platform: str


class Interpreters:
    """`downloads`: the folder for interpreters that uv brings. `at_least` is what the runtime itself requires."""

    def __init__(self, *, uv: str, downloads: Path, at_least: str = ">=3.11") -> None:
        self._uv = uv
        self._downloads = downloads
        self._at_least = at_least
        self._found: dict[str, Interpreter] = {}

    async def find(self, requires_python: str) -> Interpreter:
        """The interpreter for a version specifier such as `>=3.12`; the server's own one if it fits.

        Raises `Unprocessable` (`python_unavailable`) with the reason.
        """
        if requires_python not in self._found:
            self._found[requires_python] = await self._search(requires_python)
        return self._found[requires_python]

    async def _search(self, requires_python: str) -> Interpreter:
        request = ",".join(part for part in (requires_python.replace(" ", ""), self._at_least) if part)
        code, lines = await self._run("python", "find", "--system", "--no-python-downloads", request)
        if code:
            _, said = await self._run("python", "install", "--no-bin", request)
            code, lines = await self._run("python", "find", "--system", "--no-python-downloads", request)
            if code:
                raise Unprocessable(
                    f"No Python of this machine satisfies {request}, and none could be fetched\n{words(said)}",
                    code="python_unavailable",
                    hint="Change requires-python in pyproject.toml, or install that Python on the machine.",
                )
        _, answer = await _output([lines[-1], "-I", "-S", "-c", ASK], env={})
        return Interpreter(*json.loads(answer[-1]))

    async def _run(self, *arguments: str) -> tuple[int, list[str]]:
        environ = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "HTTP"))}
        environ |= {
            "PATH": ":".join(_folders(self._downloads)),
            "HOME": str(self._downloads),
            "UV_PYTHON_INSTALL_DIR": str(self._downloads),
            "UV_CACHE_DIR": str(self._downloads / "cache"),
        }
        return await _output([self._uv, "--no-config", "--no-progress", *arguments], env=environ)


def _folders(downloads: Path) -> Iterable[str]:
    """Where interpreters may be; the one that runs this comes first, so that most environments share it."""
    yield os.path.dirname(os.path.realpath(sys.executable))  # noqa: PTH120 - a text for PATH
    for place in (*PLACES, f"{downloads}/*/bin"):
        yield from sorted(glob.glob(os.path.expanduser(place)), reverse=True)  # noqa: PTH111, PTH207


async def _output(argv: list[str], *, env: dict[str, str]) -> tuple[int, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), DOWNLOAD_SECONDS)
    except BaseException:  # cancelled or too slow: nobody waits for it any more
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return process.returncode or 0, [clean(line) for line in output.splitlines()]
