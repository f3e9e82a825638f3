"""What is in force on this machine, for `describe` and for the decision to take in a second organization.

Found out by trying, in a process that is thrown away: sysctls and security modules that forbid something are many.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

from local.sandbox import device
from local.sandbox.cgroups import ControlGroups
from orchestrator_runtime.contract.sandbox import mounts, namespaces, privileges, seccomp

IN_FORCE = "in force"
USER_MODE_NETWORK = "user-mode network"

SYSTEM_PROGRAMS = "/usr/local/bin:/usr/bin:/bin"  # what a sandbox has as well

# Without these, one organization could read or harm another: it is refused.
REQUIRED_BETWEEN_ORGANIZATIONS = ("namespaces", "private files", "system call filter", "own host uid")


def protections(groups: ControlGroups) -> Mapping[str, str]:
    """Protection → "in force", possibly with how, or "missing: why".

    A missing user-mode network is not less safe: the proxies are the only way out then.
    """
    root = os.geteuid() == 0
    return {
        "namespaces": tried(_make_namespaces),
        "private files": tried(_make_mounts),
        "system call filter": tried(_filter_calls),
        "own host uid": IN_FORCE if root else "missing: only root can give each organization a uid of its own",
        USER_MODE_NETWORK: tried(_make_device),
        "memory limit": f"{IN_FORCE} ({_keeper(groups, 'memory', 'watchdog')})",
        "process limit": f"{IN_FORCE} ({_keeper(groups, 'pids', 'rlimit')})",
        "processor limit": f"{IN_FORCE} ({_keeper(groups, 'cpu', 'whole processors')})",
    }


def in_force(found: Mapping[str, str], name: str) -> bool:
    """Whether this machine has the protection, however it does."""
    return found[name].startswith(IN_FORCE)


def missing_between_organizations(found: Mapping[str, str]) -> list[str]:
    """The protections that a second organization would need and this machine does not have."""
    return [name for name in REQUIRED_BETWEEN_ORGANIZATIONS if not in_force(found, name)]


def tried(attempt: Callable[[], None]) -> str:
    """What came of `attempt`, made in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except BaseException as error:  # noqa: BLE001 - a process border: the child says why and ends
            os.write(writing, str(error).encode() or b"it failed")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        problem = answer.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        problem = problem or f"the trial ended with code {status}"
    return f"missing: {problem}" if problem else IN_FORCE


def _make_namespaces() -> None:
    if os.geteuid() == 0:
        namespaces.unshare(namespaces.ALL_BUT_USER)
    else:
        namespaces.enter_user_namespace(namespaces.ALL_BUT_USER)


def _make_mounts() -> None:
    _make_namespaces()
    mounts.keep_private()
    tree = mounts.detached_mount("/usr")
    mounts.mount_tmpfs("/tmp", size=4096, inodes=4)  # noqa: S108 - in a mount namespace that ends with this process
    mounts.attach(tree, "/tmp")  # noqa: S108


def _filter_calls() -> None:
    privileges.forbid_new_privileges()
    seccomp.install()


def _make_device() -> None:
    if slirp4netns() is None:
        raise FileNotFoundError("slirp4netns 1.2 or newer is not installed; programs get out by the proxies only")
    _make_namespaces()
    os.close(device.make())


@functools.cache
def slirp4netns() -> str | None:
    """The program, if it is there and takes frames over a socket, which is how we start it."""
    program = shutil.which("slirp4netns", path=SYSTEM_PROGRAMS)
    if program is None:
        return None
    usage = subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout
    return program if "bess" in usage else None


def _keeper(groups: ControlGroups, controller: str, otherwise: str) -> str:
    return "control group" if controller in groups.parents else otherwise
