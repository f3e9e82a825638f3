"""The last step of an environment: compile it, and give the compiled files to the package cache.

Runs inside the sandbox as `python -I -S finish.py SITE_PACKAGES ARCHIVES RUNTIME_PATH`, with the machine's interpreter,
not the environment's: `-S` keeps `.pth` files of hostile packages from running where the cache can be written, and
compiling runs nothing. Standard library only, and paths are plain texts, because there are tens of thousands of them.

A package of the cache is hard-linked into each environment. Once its compiled files are linked back beside it, every
later environment that contains it gets them too, so each package is compiled once per organization.
"""

from __future__ import annotations

import compileall
import contextlib
import glob
import importlib.util
import os
import sys
from collections.abc import Iterator

PTH = "orchestrator.pth"


def main(site_packages: str, archives: str, runtime_path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(site_packages, PTH))  # a package may have brought one of that name
    with open(os.path.join(site_packages, PTH), "x", encoding="ascii") as pth:
        pth.write(runtime_path + "\n")
    compile_all(site_packages)
    share(site_packages, archives)


def compile_all(site_packages: str) -> None:
    """Compile what is not yet; a file that is no valid Python stays as it is."""
    waiting = [file for file in modules(site_packages) if not os.path.exists(importlib.util.cache_from_source(file))]
    workers = min(os.cpu_count() or 1, 1 + len(waiting) // 200)
    children = []
    for number in range(1, workers):
        child = os.fork()
        if child == 0:
            _compile(waiting[number::workers])
            os._exit(0)
        children.append(child)
    _compile(waiting[::workers])
    for child in children:
        os.waitpid(child, 0)


def share(site_packages: str, archives: str) -> None:
    """Link the compiled files of each package to where uv's cache keeps the package, unless they are there."""
    origins = {
        os.stat(file).st_ino: file for file in glob.iglob(os.path.join(archives, "*", "*.dist-info", "METADATA"))
    }
    for metadata in glob.iglob(os.path.join(site_packages, "*.dist-info", "METADATA")):
        origin = origins.get(os.stat(metadata).st_ino)
        if origin is None:
            continue  # copied, not linked: the cache is on another disk
        archive = os.path.dirname(os.path.dirname(origin))
        for source in modules(archive):
            if os.path.relpath(source, archive).partition(os.sep)[0].endswith(".data"):
                continue  # scripts and headers: uv puts them elsewhere, and refuses a package with more beside them
            cached = importlib.util.cache_from_source(source)
            compiled = os.path.join(site_packages, os.path.relpath(cached, archive))
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.makedirs(os.path.dirname(cached), exist_ok=True)
                os.link(compiled, cached)


def modules(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py"):
                yield os.path.join(parent, name)


def _compile(files: list[str]) -> None:
    for file in files:
        compileall.compile_file(file, quiet=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
