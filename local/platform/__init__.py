"""The Platform port on one machine: the server's end of control.sock and of supervisor.sock (docs/internals.md).

It runs inside the server process and holds what is desired and what was observed; the gateway and the supervisor do the
work. It writes nothing down: after a restart the reconciler says again what is desired.
"""

from local.platform.platform import Callbacks, LocalPlatform

__all__ = ["Callbacks", "LocalPlatform"]
