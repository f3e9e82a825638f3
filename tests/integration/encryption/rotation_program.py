"""Rotates a key and kills itself at one of its steps: `python -m … URL HOME organization|master STEP`.

A step is a transaction, just before its commit, or a change of a name in HOME. Exit code 0: it came to the end first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_api.encryption.files import FileKeys
from control_api.store.database import Database
from tests.integration.encryption.rotating import ORGANIZATION, started

NAMES = {"os.link", "os.rename", "os.remove"}


class Steps:
    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def take(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def rotate(url: str, home: Path, kind: str, steps: Steps) -> None:
    async with started(url, FileKeys(home / "master.key")) as server:
        _count_transactions(steps)
        _count_names(home, steps)
        if kind == "master":
            await server.service.rotate_master(ORGANIZATION)
        else:
            await server.service.rotate(ORGANIZATION)
            await server.resealing.finish(ORGANIZATION)


def _count_transactions(steps: Steps) -> None:
    original = Database.write

    async def write(self: Database, work: Callable[[Any], Any]) -> Any:
        def counted(session: Any) -> Any:
            result = work(session)
            steps.take()
            return result

        return await original(self, counted)

    Database.write = write  # type: ignore[method-assign]


def _count_names(home: Path, steps: Steps) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NAMES and str(arguments[0]).startswith(str(home)):
            steps.take()

    sys.addaudithook(hook)


if __name__ == "__main__":
    asyncio.run(rotate(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Steps(int(sys.argv[4]))))
