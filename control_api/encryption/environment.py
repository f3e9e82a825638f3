"""Master keys in variables of the server's environment, for platforms that deliver secrets that way.

To rotate, start the server with another key, and with the one before among the previous ones: that start wraps anew.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from pydantic import SecretStr

from control_api.encryption.local_key import LocalKey
from control_api.settings import Encryption
from control_api.store.sealing import KEY_BYTES
from domain.ports import MasterKey
from orchestrator_runtime.contract.errors import Conflict

KEY = "ORCHESTRATOR_ENCRYPTION_KEY"
PREVIOUS = "ORCHESTRATOR_ENCRYPTION_PREVIOUS_KEYS"
MAKE = "python3 -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"


class EnvironmentKeys:
    """`domain.ports.MasterKeys` in settings: 32 bytes each, in base64."""

    def __init__(self, settings: Encryption) -> None:
        self._settings = settings

    def current(self) -> MasterKey:
        if self._settings.key is None:
            raise Conflict(
                f"{KEY} is not set, and the master key is to be there",
                code="master_key_missing",
                hint=f"Set it to the key of this database, or for a new one to what this prints: {MAKE}",
            )
        return _decode(self._settings.key, KEY)

    def known(self) -> Sequence[MasterKey]:
        previous = [_decode(key, PREVIOUS) for key in self._settings.previous_keys]
        return previous if self._settings.key is None else [self.current(), *previous]

    def renew(self) -> MasterKey:
        raise Conflict(
            "The master key is in the environment, where the platform cannot put another one",
            code="master_key_outside",
            hint=f"Move it to {PREVIOUS}, set {KEY} to a new one, and start the platform again.",
        )

    def settle(self, key: str) -> None:
        """Nothing to do: nothing was made."""


def _decode(value: SecretStr, variable: str) -> LocalKey:
    """Raises `Conflict` (`master_key_invalid`), which does not repeat the value."""
    try:
        key = base64.b64decode(value.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):  # no base64: of no length that fits
        key = b""
    if len(key) != KEY_BYTES:
        raise Conflict(
            f"{variable} is not the base64 of {KEY_BYTES} bytes",
            code="master_key_invalid",
            hint=f"Take the right one from where you keep it. This makes a new one: {MAKE}",
        ) from None
    return LocalKey(key)
