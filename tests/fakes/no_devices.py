"""`python -m tests.fakes.no_devices PROGRAM ARGUMENT…`: start a program on a machine without /dev/net/tun."""

from __future__ import annotations

import os
import sys

from orchestrator_runtime.contract.sandbox import mounts, namespaces


def main() -> None:
    if os.geteuid() == 0:
        namespaces.unshare(namespaces.NEWNS)
    else:
        namespaces.enter_user_namespace(namespaces.NEWNS)
    mounts.keep_private()
    mounts.mount_tmpfs("/dev/net", size=4096, inodes=2, mode=0o755)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
