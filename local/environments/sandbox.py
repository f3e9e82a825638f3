"""The one thing a build needs of a sandbox: to run a program in it. Implemented by `local.environments.direct` and, in
the server, by the supervisor's operation `sandbox.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from local.sandbox.spec import SandboxSpec


class Sandbox(Protocol):
    async def run(self, spec: SandboxSpec, *, output: Callable[[bytes], None]) -> int:
        """Run the program to its end and return its exit code (minus the signal if one killed it).

        `output` gets what it writes to stdout and stderr, in pieces as they come. The program is killed when
        `spec.timeout` is over, or when the caller is cancelled. Raises `Problem` if it cannot be started.
        """
        ...
