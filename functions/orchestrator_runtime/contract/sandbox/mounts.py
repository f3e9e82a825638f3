"""Mounts: detached read-only copies of folders, small file systems in memory, and a new root.

A detached mount is a descriptor that may be sent to another process, which attaches it in its own mount namespace;
so a zygote without privileges gets an agent's folder for an instance that its root file system does not hold.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator_runtime.contract.sandbox import kernel

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every machine
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_FROM_DESCRIPTOR = 1, 0x80000, 4
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8  # the same bits in mount(2) and mount_setattr(2)
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x4000, 0x40000, 2


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def copy_tree(path: str | os.PathLike[str]) -> int:
    """A descriptor of a detached copy of the mounts at and below `path`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return kernel.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, what=f"open_tree {os.fspath(path)}")


def restrict(tree: int, attributes: int) -> None:
    """Forbid what `attributes` name, in the whole tree."""
    _set_attributes(tree, b"", attributes, _AT_EMPTY_PATH | _AT_RECURSIVE)


def restrict_mount(path: str, attributes: int) -> None:
    """Forbid what `attributes` name in the one mount at `path`, not in those below it."""
    _set_attributes(_AT_FDCWD, os.fsencode(path), attributes, 0)


def _set_attributes(folder: int, path: bytes, attributes: int, flags: int) -> None:
    values = _Attributes(attributes, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(values))
    kernel.syscall(_MOUNT_SETATTR, folder, path, flags, ctypes.byref(values), size, what="mount_setattr")


def detached_mount(path: str | os.PathLike[str], *, read_only: bool = True, devices: bool = False) -> int:
    """A descriptor of a copy of `path` that honours no set-user-id bits and, unless told otherwise, no devices.

    The caller closes it. Raises `OSError`, also where we are neither root nor in a user namespace of our own.
    """
    tree = copy_tree(path)
    try:
        restrict(tree, NO_SETUID | (0 if devices else NO_DEVICES) | (READ_ONLY if read_only else 0))
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, target: str) -> None:
    """Mount a detached tree at `target`, which exists."""
    path = os.fsencode(target)
    kernel.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, path, _MOVE_FROM_DESCRIPTOR, what=f"move_mount to {target}")


def mount_tmpfs(target: str, *, size: int, inodes: int, mode: int = 0o1777) -> None:
    """An empty file system in memory that holds `size` bytes in `inodes` files."""
    options = f"size={size},nr_inodes={inodes},mode={mode:o}"
    kernel.mount("tmpfs", target, "tmpfs", NO_SETUID | NO_DEVICES, options)


def mounted_below(folder: str) -> list[str]:
    """Where something is mounted below `folder`, outer mounts first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]
    return sorted({point for point in points if point.startswith(f"{folder}/")}, key=len)


def cover_with_tmpfs(folder: str, *, size: int, inodes: int, keep: Sequence[str]) -> None:
    """Like `mount_tmpfs`, but the mounts at `keep`, which are below it, stay visible."""
    trees = [copy_tree(path) for path in keep]
    mount_tmpfs(folder, size=size, inodes=inodes)
    for tree, path in zip(trees, keep, strict=True):
        Path(path).mkdir(parents=True, exist_ok=True)
        attach(tree, path)
        os.close(tree)


def mount_proc(target: str) -> None:
    """The processes of our pid namespace. The kernel wants another complete /proc in our mount namespace."""
    kernel.mount("proc", target, "proc", NO_SETUID | NO_DEVICES | NO_PROGRAMS)


def keep_private() -> None:
    """From now on nothing that we mount is seen outside our mount namespace, and the other way round."""
    kernel.mount("none", "/", "none", _MS_REC | _MS_PRIVATE)


def change_root(folder: str) -> None:
    """Make `folder`, a mount, the root, and let go of everything that was outside it."""
    os.chdir(folder)
    kernel.syscall(_PIVOT_ROOT[kernel.MACHINE], b".", b".", what="pivot_root")
    kernel.umount(".", _MNT_DETACH)
    os.chdir("/")
