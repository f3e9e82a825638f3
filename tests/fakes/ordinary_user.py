"""`python -m tests.fakes.ordinary_user UID PROGRAM ARGUMENT…`: as root, start a program as a user without any rights.

In a mount namespace of its own, folders that only root may enter and that lie above the interpreter or the checkout
are replaced by ones that show only these two: a test machine may have both below /root.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orchestrator_runtime
from orchestrator_runtime.contract.sandbox import mounts, namespaces


def main() -> None:
    uid, program = int(sys.argv[1]), sys.argv[2:]
    checkout = Path(orchestrator_runtime.__file__).parents[2]
    namespaces.unshare(namespaces.NEWNS)
    mounts.keep_private()
    needed = [str(checkout), str(Path(sys.base_prefix).resolve()), str(Path(sys.prefix).resolve())]
    for closed in _closed_above(needed):
        inside = [path for path in needed if path.startswith(f"{closed}/")]
        mounts.cover_with_tmpfs(closed, size=1024 * 1024, inodes=1024, keep=inside)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.execv(program[0], program)


def _closed_above(paths: list[str]) -> list[str]:
    """The outermost folders above `paths` that an ordinary user may not enter."""
    found: list[str] = []
    for path in paths:
        for folder in reversed(Path(path).parents):
            if not folder.stat().st_mode & 0o001:
                found.append(str(folder))
                break
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    main()
