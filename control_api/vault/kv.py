"""Values in Vault's key/value engine (version 2), by reference: `vault:PATH#FIELD`.

Paths are below a folder of the organization's own, so that nobody can name what is another's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from control_api.settings import VaultSettings
from control_api.vault.client import Vault
from orchestrator_runtime.contract.errors import Conflict, Unprocessable

REFERENCE = re.compile(r"vault:(?P<path>[\w.-]+(?:/[\w.-]+)*)#(?P<field>[\w.-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a value is: a path below the organization's folder, and a field of what is there."""

    path: str
    field: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises `Unprocessable` (`reference_invalid`)."""
        found = REFERENCE.fullmatch(text)
        if found is None or any(set(part) == {"."} for part in found["path"].split("/")):
            raise Unprocessable(
                f"{text!r} is no reference",
                code="reference_invalid",
                hint="Write vault:PATH#FIELD, such as vault:openai#api_key; PATH is below your organization's folder.",
            )
        return cls(found["path"], found["field"])


class KeyValues:
    """Reads values. `mount` is the engine's; an organization's folder is FOLDER/ID."""

    def __init__(self, vault: Vault, settings: VaultSettings) -> None:
        self._vault = vault
        self._mount = settings.kv_mount
        self._folder = settings.kv_folder

    def read(self, organization: str, reference: Reference) -> str:
        """The value. Raises what Vault's client raises, or `Conflict` (`vault_missing`) if the field is not there."""
        path = f"{self._folder}/{organization}/{reference.path}"
        answer = self._vault.call(
            lambda client: client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=self._mount, raise_on_deleted_version=True
            ),
            what=f"value {self._mount}/{path}",
        )
        value = (answer["data"]["data"] or {}).get(reference.field)
        if not isinstance(value, str) or not value or "\0" in value:
            raise Conflict(
                f"{self._mount}/{path} in Vault has no field {reference.field} that a variable can hold",
                code="vault_missing",
                hint="It must be text that is not empty and holds no NUL.",
            )
        return value
