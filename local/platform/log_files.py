"""Reads the log files of revisions: JSON lines that the supervisor appends and rotates (FILE becomes FILE.1).

Following looks at the file's size again and again: that is a system call per interval and reader, and works on every
file system.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

READ_BYTES = 256 * 1024


async def read_log(path: Path, *, follow: bool, interval: float) -> AsyncIterator[bytes]:
    """Whole lines, oldest first, with their line feed; `follow` waits for more instead of ending.

    `interval` is the time between two looks at the file, in seconds. A revision that wrote nothing has no file.
    """
    for line in await asyncio.to_thread(_lines, path.with_name(path.name + ".1")):
        yield line
    file: BinaryIO | None = None
    rest = b""
    try:
        while True:
            file = file or _open(path)
            data = await asyncio.to_thread(file.read, READ_BYTES) if file else b""
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if data:
                continue
            if file is not None and _rotated(file, path):
                file.close()
                file = None
                continue
            if not follow:
                return
            await asyncio.sleep(interval)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:  # nothing was written yet
        return None


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:  # never rotated
        return []


def _rotated(file: BinaryIO, path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:  # between the two steps of a rotation, or deleted with its agent
        return False
