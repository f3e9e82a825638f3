"""The private root file system of a sandbox: a small tmpfs that holds mount points, made read-only when it is complete.

Called by `launch` in the new mount namespace. Every folder of the host is opened before the first mount hides one, and
every mount point is made before the first folder is attached, so that nothing is ever written through a mount.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from local.sandbox import etc
from local.sandbox.spec import HOST_FOLDERS, SandboxSpec, Tmpfs
from orchestrator_runtime.contract.instance import SCRATCH_PATH, SOURCE_PATH
from orchestrator_runtime.contract.sandbox import mounts

STAGING = "/tmp"  # noqa: S108 - exists everywhere; in our mount namespace only, it becomes the new root
ROOT_BYTES = 1024 * 1024
ROOT_FILES = 4096
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/shm": SCRATCH_PATH,  # noqa: S108 - one tmpfs with one size for everything
    "/var/tmp": SCRATCH_PATH,  # noqa: S108
}


@dataclass(frozen=True, slots=True)
class _Tree:
    descriptor: int
    inside: str
    is_folder: bool


def enter_private_root(spec: SandboxSpec, *, uid: int, gid: int) -> None:
    """Build the root that `spec` describes and make it ours. Raises `OSError` naming the path that failed."""
    trees = sorted(_host_trees() + _spec_trees(spec), key=lambda tree: tree.inside.count("/"))
    mounts.mount_tmpfs(STAGING, size=ROOT_BYTES, inodes=ROOT_FILES, mode=0o755)
    scratch = Tmpfs(SCRATCH_PATH, spec.limits.scratch_bytes, spec.limits.scratch_files)
    for tmpfs in (scratch, *spec.tmpfs):
        Path(STAGING + tmpfs.path).mkdir(parents=True, exist_ok=True)
        mounts.mount_tmpfs(STAGING + tmpfs.path, size=tmpfs.size, inodes=tmpfs.inodes)
    _make_mount_points(trees)
    _write_files(uid, gid)
    for tree in trees:
        mounts.attach(tree.descriptor, STAGING + tree.inside)
        os.close(tree.descriptor)
    Path(f"{STAGING}/proc").mkdir()
    mounts.mount_proc(f"{STAGING}/proc")
    mounts.change_root(STAGING)
    mounts.restrict_mount("/", mounts.READ_ONLY | mounts.NO_SETUID | mounts.NO_DEVICES)


def _host_trees() -> list[_Tree]:
    present = [path for path in (*HOST_FOLDERS, *etc.FROM_HOST) if Path(path).exists()]
    real = [path for path in present if path in etc.FROM_HOST or not Path(path).is_symlink()]
    trees = [_Tree(mounts.detached_mount(path), path, Path(path).is_dir()) for path in real]
    for name in DEVICES:
        path = f"/dev/{name}"
        trees.append(_Tree(mounts.detached_mount(path, read_only=False, devices=True), path, is_folder=False))
    return trees


def _spec_trees(spec: SandboxSpec) -> list[_Tree]:
    return [
        _Tree(mounts.detached_mount(bind.host, read_only=bind.read_only), bind.inside, Path(bind.host).is_dir())
        for bind in spec.binds
    ]


def _make_mount_points(trees: list[_Tree]) -> None:
    for folder in [SOURCE_PATH, *(tree.inside for tree in trees if tree.is_folder)]:
        Path(STAGING + folder).mkdir(parents=True, exist_ok=True)
    for file in [tree.inside for tree in trees if not tree.is_folder]:
        path = Path(STAGING + file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _write_files(uid: int, gid: int) -> None:
    for name, text in etc.files(uid, gid).items():
        path = Path(STAGING + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    links = {path: str(Path(path).readlink()) for path in HOST_FOLDERS if Path(path).is_symlink()}
    for name, target in {**links, **LINKS}.items():
        path = Path(STAGING + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
