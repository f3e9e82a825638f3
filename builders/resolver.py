"""What `uv` says when it cannot resolve, install or build, as problems. Called by the builders of the engines.

Decided by its exit code, and by its words only for what has no code of its own: a full disk, and an index that did not
answer although uv asked it again and again. uv asks again only where that may help, so its word for it is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator_runtime.contract.errors import Problem, Unavailable, Unprocessable

UNSATISFIABLE = 1  # uv's exit code; 2 is any other failure
UNREACHABLE = "index_unreachable"  # the code of the one problem that may be gone at the next try
QUOTED_LINES = 30
LONGEST = 1000  # characters of a cause that is part of a sentence
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PART = re.compile(r"\s*(error:|cause:|Caused by:|hint:|×|╰─▶)\s*(.*)")  # also as older versions draw it
DISK_FULL = "(os error 28)"
ASKED_AGAIN = re.compile(r"Request failed after \d+ retr")


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
    if is_disk_full(lines):
        return disk_full()
    if is_unreachable(lines):
        return unreachable(lines)
    causes, hints = _parts(lines)
    if exit_code == UNSATISFIABLE:
        return Unprocessable(
            f"The dependencies cannot be resolved: {_sentence(causes[1:] or causes)}",
            code="dependencies_unresolvable",
            hint=" ".join(hints) or "Change the requirements so that one version of each package satisfies all.",
            resolver=words(lines),
        )
    return Unprocessable(
        f"The dependencies could not be read or fetched: {_sentence(causes)}",
        code="dependencies_unresolvable",
        hint=" ".join(hints) or "Check the requirements' spelling, the package index and its credentials.",
        resolver=words(lines),
    )


def build_failed(step: str, lines: Sequence[str]) -> Problem:
    """Why a lock did not become an environment."""
    if is_disk_full(lines):
        return disk_full()
    if is_unreachable(lines):
        return unreachable(lines)
    causes, hints = _parts(lines)
    return Unprocessable(
        f"{step} failed: {_sentence(causes)}",
        code="build_failed",
        hint=" ".join([*hints, "The build's log shows all that it wrote."]),
        resolver=words(lines),
    )


def is_disk_full(lines: Sequence[str]) -> bool:
    return any(DISK_FULL in line or "No space left on device" in line for line in lines)


def disk_full() -> Unavailable:
    return Unavailable(
        "The disk is full; nothing of this version was kept",
        code="disk_full",
        hint="Free space where ORCHESTRATOR_HOME is, then deploy again.",
    )


def is_unreachable(lines: Sequence[str]) -> bool:
    return any(ASKED_AGAIN.search(line) for line in lines)


def unreachable(lines: Sequence[str]) -> Unavailable:
    causes, _ = _parts(lines)
    what = [cause for cause in causes if cause.startswith("Failed to fetch")]
    return Unavailable(
        f"The package index did not answer: {_sentence([*what, *causes[-1:]])}",
        code=UNREACHABLE,
        hint="Deploy again once it does; UV_DEFAULT_INDEX at the start of the platform names another one.",
        resolver=words(lines),
    )


def _parts(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The error with its causes, the deepest one last, and the hints; each in one line."""
    found: list[tuple[str, list[str]]] = []
    said = words(lines).splitlines()
    for line in said:
        marked = PART.match(line)
        if marked:
            found.append((marked[1], [marked[2]]))
        elif found:
            found[-1][1].append(line)
    texts = [(mark, " ".join(" ".join(text).split())) for mark, text in found]
    causes = [text for mark, text in texts if mark != "hint:" and text]
    return causes or said[-1:], [text for mark, text in texts if mark == "hint:" and text]


def _sentence(causes: Sequence[str]) -> str:
    """The causes in one line; of a long one its end, where what went wrong is."""
    text = ": ".join(cause.rstrip(":.") for cause in causes)
    return text if len(text) <= LONGEST else f"… {text[-LONGEST:]}"
