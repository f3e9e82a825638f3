"""The master key in Vault's transit engine: it never leaves Vault, which wraps and unwraps for us."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from control_api.settings import VaultSettings
from control_api.store.sealing import wrong_key
from control_api.vault.client import Vault
from domain.ports import MasterKey
from orchestrator_runtime.contract.errors import Conflict


class TransitKeys:
    """`domain.ports.MasterKeys`: one key of the engine, whose own versions Vault tells apart."""

    def __init__(self, vault: Vault, settings: VaultSettings) -> None:
        self._vault = vault
        self._mount = settings.transit_mount
        self._name = settings.transit_key

    def current(self) -> MasterKey:
        return TransitKey(self._vault, mount=self._mount, name=self._name)

    def known(self) -> Sequence[MasterKey]:
        return [self.current()]

    def renew(self) -> MasterKey:
        """Make a newer version in Vault, which wraps at once; those before unwrap."""
        self._vault.call(
            lambda client: client.secrets.transit.rotate_key(name=self._name, mount_point=self._mount),
            what=f"the rotation of the key {self._mount}/{self._name}",
        )
        return self.current()

    def settle(self, key: str) -> None:
        """Nothing to do: a version that wrapped nothing does no harm."""


class TransitKey:
    """`domain.ports.MasterKey`. Contexts are authenticated as associated data, so the key must be aes256-gcm96."""

    def __init__(self, vault: Vault, *, mount: str, name: str) -> None:
        self.id = f"vault:{mount}/{name}"
        self._vault = vault
        self._mount = mount
        self._name = name

    def wrap(self, content: bytes, context: str) -> bytes:
        """Vault's own form, such as `vault:v1:…`."""
        answer = self._vault.call(
            lambda client: client.secrets.transit.encrypt_data(
                name=self._name,
                plaintext=_encode(content),
                associated_data=_encode(context.encode()),
                mount_point=self._mount,
            ),
            what=f"the key {self._mount}/{self._name}",
        )
        return str(answer["data"]["ciphertext"]).encode()

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        try:
            answer = self._vault.call(
                lambda client: client.secrets.transit.decrypt_data(
                    name=self._name,
                    ciphertext=wrapped.decode(errors="replace"),
                    associated_data=_encode(context.encode()),
                    mount_point=self._mount,
                ),
                what=f"the key {self._mount}/{self._name}",
            )
        except Conflict as refused:
            if refused.code == "vault_refused":  # another key, or for another context, wrapped it
                raise wrong_key("A key in the database") from refused
            raise
        return base64.b64decode(answer["data"]["plaintext"])


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
