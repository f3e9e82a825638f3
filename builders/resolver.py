"""What `uv` says when it cannot resolve, install or build, as problems. Called by the builders of the engines.

Decided by its exit code, never by its words, except for a full disk, which has no code of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator_runtime.contract.errors import Problem, Unavailable, Unprocessable

UNSATISFIABLE = 1  # uv's exit code; 2 is any other failure
QUOTED_LINES = 30
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
DISK_FULL = "(os error 28)"


def clean(line: bytes) -> str:
    """A line of output as text, without colours and credentials in addresses."""
    text = COLOURS.sub("", line.decode(errors="replace")).rstrip()
    return re.sub(r"(://)[^/@\s]+@", r"\1****@", text)


def words(lines: Sequence[str]) -> str:
    """What uv said in the end: from its last `error:` on, or the last lines."""
    starts = [index for index, line in enumerate(lines) if line.startswith(("error:", "  × "))]
    return "\n".join(lines[starts[-1] if starts else 0 :][:QUOTED_LINES]).strip()


def resolution_failed(exit_code: int, lines: Sequence[str]) -> Problem:
    """Why dependencies have no lock."""
    said = words(lines)
    if is_disk_full(lines):
        return disk_full()
    if exit_code == UNSATISFIABLE:
        return Unprocessable(
            f"The dependencies cannot be resolved\n{said}",
            code="dependencies_unresolvable",
            hint="Change the requirements so that one version of each package satisfies all of them.",
            resolver=said,
        )
    return Unprocessable(
        f"The dependencies could not be read or fetched\n{said}",
        code="dependencies_unresolvable",
        hint="Check the requirements' spelling, the package index and its credentials.",
        resolver=said,
    )


def build_failed(step: str, lines: Sequence[str]) -> Problem:
    """Why a lock did not become an environment."""
    if is_disk_full(lines):
        return disk_full()
    said = words(lines)
    return Unprocessable(
        f"{step} failed\n{said}", code="build_failed", hint="The build's log shows all that it wrote.", resolver=said
    )


def is_disk_full(lines: Sequence[str]) -> bool:
    return any(DISK_FULL in line or "No space left on device" in line for line in lines)


def disk_full() -> Unavailable:
    return Unavailable(
        "The disk is full; nothing of this version was kept",
        code="disk_full",
        hint="Free space where ORCHESTRATOR_HOME is, then deploy again.",
    )
