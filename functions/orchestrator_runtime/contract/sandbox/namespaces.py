"""Namespaces, and the processes in them."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from orchestrator_runtime.contract.sandbox import kernel

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
ALL_BUT_USER = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET

CLONE_PARENT = 0x8000
_CLONE = {"x86_64": 56, "aarch64": 220}


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones. With `NEWPID` it is the next child that does."""
    kernel.unshare(flags)


def enter_user_namespace(flags: int = 0) -> None:
    """Go into a new user namespace (and the others in `flags`) in which we are who we were, with every capability.

    Only this uid and gid exist in it, so nothing in it can become anyone else. The process must have one thread.
    """
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(NEWUSER | flags)
    map_only(uid, gid)


def map_only(uid: int, gid: int) -> None:
    """Be `uid` and `gid` in the new user namespace that this process is in: who we were outside."""
    process = Path("/proc/self")
    process.joinpath("setgroups").write_text("deny")
    process.joinpath("uid_map").write_text(f"{uid} {uid} 1")
    process.joinpath("gid_map").write_text(f"{gid} {gid} 1")


def fork_sibling() -> int:
    """Like `fork`, but the new process is a child of our parent, which outlives us and gets its exit status.

    Python's and the C library's preparations for a fork do not run: the new process may make system calls and start
    a program, nothing else.
    """
    flags = CLONE_PARENT | signal.SIGCHLD
    return kernel.syscall(_CLONE[kernel.MACHINE], flags, 0, 0, 0, 0, what="clone")


def fork_into(flags: int) -> int:
    """Like `os.fork`, but the new process is in new namespaces; with `NEWPID` it is the first of its own.

    One copy of the memory, where leaving for a new pid namespace and then forking makes two. For processes of one
    thread that are the first of a pid namespace: Python prepares itself as for any fork, but the C library does not,
    which only matters to other threads and to who asks it for the number of the main thread, and that stays 1.
    """
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    try:
        child = kernel.syscall(_CLONE[kernel.MACHINE], flags | signal.SIGCHLD, 0, 0, 0, 0, what="clone")
    except OSError:
        python.PyOS_AfterFork_Parent()
        raise
    if child == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return child


def host_pid(pidfd: int) -> int:
    """The number that the process behind a descriptor has for us; -1 if it has gone."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise ValueError(f"descriptor {pidfd} is not a process")
