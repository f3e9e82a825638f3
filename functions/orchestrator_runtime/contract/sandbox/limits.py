"""Limits that the kernel keeps for one process and what it starts. Memory is kept by others: see `local.sandbox`."""

from __future__ import annotations

import os
import resource
from collections.abc import Collection
from pathlib import Path

from orchestrator_runtime.contract.instance import Limits

FIRST_TO_GO = 1000  # oom_score_adj: when the machine runs out of memory, the kernel ends an agent and nothing else


def apply(limits: Limits) -> None:
    """Hold this process, and what it starts, to `limits`; they cannot be raised again.

    The number of processes is counted per user namespace, so this comes after entering one. No core dumps.
    """
    _at_most(resource.RLIMIT_NPROC, limits.processes)
    _at_most(resource.RLIMIT_NOFILE, limits.open_files)
    _at_most(resource.RLIMIT_CORE, 0)


def _at_most(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bounded, bounded))


def be_first_to_go() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO))


def hold_to_cpus(cpus: Collection[int]) -> None:
    """Run on these processors only; none named means all."""
    if cpus:
        os.sched_setaffinity(0, cpus)
