"""What a process must be before it can start sandboxes. Called once by the supervisor, before it has threads."""

from __future__ import annotations

import os

from orchestrator_runtime.contract.errors import Unavailable
from orchestrator_runtime.contract.sandbox import namespaces


def prepare_supervisor() -> None:
    """Gain what detached mounts need: as an ordinary user, a user and a mount namespace of our own. As root, nothing.

    The process stays who it was, and programs that it starts get none of the capabilities. Raises `Unavailable`
    (`sandbox_unavailable`) where the kernel does not allow it.
    """
    if os.geteuid() == 0:
        return
    try:
        namespaces.enter_user_namespace(namespaces.NEWNS)
    except OSError as error:
        raise Unavailable(
            f"This machine does not let its users make namespaces: {error}",
            code="sandbox_unavailable",
            hint="Allow it (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or start Orchestrator as root.",
        ) from error
