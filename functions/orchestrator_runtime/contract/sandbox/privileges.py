"""What a process may become: nothing more than it is."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from pathlib import Path

from orchestrator_runtime.contract.sandbox import kernel

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_POSSIBLE_CAPABILITY = 63


def become(uid: int) -> None:
    """From root to `uid`, for good, without any group but its own."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(_PR_SET_DUMPABLE, 1)  # else our own /proc/self would belong to root, and no uid map could be written


def drop_capabilities() -> None:
    """Give up every capability, also those that a program we start could bring back."""
    for capability in range(_LAST_POSSIBLE_CAPABILITY + 1):
        try:
            kernel.prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # this kernel knows no more of them
                break
            raise
    kernel.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    kernel.syscall(_CAPSET[kernel.MACHINE], ctypes.byref(header), ctypes.byref(none), what="capset")


def forbid_new_privileges() -> None:
    """No program that we start gains anything from set-user-id bits or file capabilities."""
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """The kernel kills us when our parent goes. Forgotten when the uid changes, so it is said after that."""
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def capabilities() -> int:
    """The ones in force, as a bit mask."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
