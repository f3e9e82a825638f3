"""Control groups: the kernel's limits for a sandbox as a whole, where this process may make groups of its own.

Version 2 where it has a memory controller, else the memory, pids and cpu hierarchies of version 1. Groups are made
below the one we are in, so that whatever limits us limits them as well. What is missing is left to `watchdog`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator_runtime.contract.instance import Limits

logger = logging.getLogger("sandbox.cgroups")

PREFIX = "orchestrator-"
PERIOD = 100_000  # microseconds of a round in which a group may use its share
CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Where groups can be made: controller → folder. Empty where nothing is delegated to us."""

    version: int
    parents: Mapping[str, Path]

    def create(self, name: str, limits: Limits) -> Group:
        """A group with these limits. Raises `OSError`."""
        name = f"{PREFIX}{os.getpid()}-{name}"
        group = Group(self.version, {controller: parent / name for controller, parent in self.parents.items()})
        for folder in group.folders:
            folder.mkdir(exist_ok=True)
        group.limit(limits)
        return group

    def sweep(self) -> None:
        """Remove the groups that supervisors left which are no more."""
        for parent in set(self.parents.values()):
            for folder in parent.glob(f"{PREFIX}*-*"):
                owner = folder.name.removeprefix(PREFIX).split("-")[0]
                if not Path("/proc", owner).exists():
                    _remove(folder)


@dataclass(frozen=True, slots=True)
class Group:
    """One sandbox's group: controller → folder; in version 2 they are the same."""

    version: int
    places: Mapping[str, Path]

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.places.values()))

    def limit(self, limits: Limits) -> None:
        """Set or change its limits. Raises `OSError`."""
        for controller, folder in self.places.items():
            for file, value in settings(self.version, controller, limits):
                if (folder / file).exists():  # swap accounting is optional
                    (folder / file).write_text(value)

    def end_as_one(self) -> None:
        """Let a lack of memory end all of its processes at once, where the kernel can (version 2). Raises `OSError`."""
        for folder in self.folders:
            if (folder / "memory.oom.group").exists():
                (folder / "memory.oom.group").write_text("1")

    def entrances(self) -> tuple[str, ...]:
        """Files into which a process writes 0 to join."""
        return tuple(str(folder / "cgroup.procs") for folder in self.folders)

    def add(self, pid: int) -> None:
        """Blocks for some milliseconds: the kernel waits until no processor is in the middle of a fork.

        Raises `ProcessLookupError` if it has gone.
        """
        for entrance in self.entrances():
            Path(entrance).write_text(str(pid))

    def out_of_memory_kills(self) -> int:
        """How many of its processes the kernel killed because the group was full."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        for folder in self.folders:
            path = folder / file
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE) if path.exists() else None
            if found:
                return int(found[1])
        return 0

    def remove(self) -> bool:
        """Whether it has gone; it stays while a killed process is still being taken apart."""
        gone = [_remove(folder) for folder in self.folders]
        return all(gone)


def settings(version: int, controller: str, limits: Limits) -> list[tuple[str, str]]:
    """File → text for one controller's share of `limits`."""
    quota = max(1000, int(limits.cpu * PERIOD))
    if controller == "pids":
        return [("pids.max", str(limits.processes))]
    if controller == "memory" and version == 2:
        return [("memory.max", str(limits.memory_bytes)), ("memory.swap.max", "0")]
    if controller == "memory":
        size = str(limits.memory_bytes)
        with_swap = "memory.memsw.limit_in_bytes"  # must never be the lower of the two
        return [(with_swap, "-1"), ("memory.limit_in_bytes", size), (with_swap, size)]
    if version == 2:
        return [("cpu.max", f"{quota} {PERIOD}")]
    return [("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota))]


def find() -> ControlGroups:
    """What this machine delegates to us."""
    ours = _own_groups(Path("/proc/self/cgroup").read_text())
    mounted = _mounted(Path("/proc/self/mountinfo").read_text())
    unified = mounted.get("")
    if unified is not None and "" in ours:
        parent = _delegated_v2(unified, ours[""])
        if parent is not None:
            return ControlGroups(2, dict.fromkeys(CONTROLLERS, parent))
    parents = {}
    for controller in CONTROLLERS:
        if controller in mounted and controller in ours:
            parent = _existing(mounted[controller], ours[controller])
            if _can_make_groups(parent):
                parents[controller] = parent
    return ControlGroups(1, parents)


def _own_groups(text: str) -> dict[str, str]:
    """Controller → path, from /proc/self/cgroup; version 2's controller is empty."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _mounted(text: str) -> dict[str, Path]:
    """Controller → mount point, from /proc/self/mountinfo."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        point = Path(fields.split(" ")[4])
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, point)
    return found


def _existing(mount: Path, path: str) -> Path:
    """Our group below a mount; inside a container the path may be the host's, and the mount itself is ours."""
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount


def _can_make_groups(parent: Path) -> bool:
    probe = parent / f"{PREFIX}{os.getpid()}-probe"
    try:
        probe.mkdir()
    except OSError:  # not delegated to us
        return False
    _remove(probe)
    return True


def _delegated_v2(mount: Path, path: str) -> Path | None:
    """A folder whose children have all three controllers.

    The root of the hierarchy may have processes beside its children; any other group may not, so there we move into a
    child of our own first, which fails if we are not alone in it.
    """
    for parent in dict.fromkeys((mount, _existing(mount, path))):
        controllers = (parent / "cgroup.controllers").read_text().split()
        if not set(CONTROLLERS) <= set(controllers) or not _can_make_groups(parent):
            continue
        try:
            _enable(parent)
        except OSError as error:  # others are in it, or it is not ours to change
            logger.debug("%s is not delegated: %s", parent, error)
            continue
        return parent
    return None


def _enable(parent: Path) -> None:
    control = parent / "cgroup.subtree_control"
    if set(CONTROLLERS) <= set(control.read_text().split()):
        return
    if (parent / "cgroup.type").exists():  # not the root
        own = parent / f"{PREFIX}supervisor"
        own.mkdir(exist_ok=True)
        (own / "cgroup.procs").write_text(str(os.getpid()))
    control.write_text(" ".join(f"+{name}" for name in CONTROLLERS))


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # still in use
        return False
    return True
