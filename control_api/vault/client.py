"""Calls Vault: a bounded number of tries, and errors of ours.

The token comes from a file that is read again for each call where there is one, so that Vault's agent may renew it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from control_api.settings import VaultSettings
from orchestrator_runtime.contract.errors import BadInput, Conflict, Forbidden, Problem, Unavailable

if TYPE_CHECKING:
    import hvac

Result = TypeVar("Result")
PAUSES = (0.2, 0.5, 1.0)  # seconds between tries; four tries in all


class Vault:
    """One Vault server. Blocks: call it in a thread."""

    def __init__(self, settings: VaultSettings, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Raises `BadInput` (`settings_invalid`) if the settings do not say where it is."""
        if settings.address is None:
            raise BadInput(
                "ORCHESTRATOR_VAULT_ADDRESS is not set",
                code="settings_invalid",
                hint="Set it to Vault's URL, such as https://vault.example.com:8200.",
            )
        self._settings = settings
        self._pause = pause

    def call(self, ask: Callable[[hvac.Client], Result], *, what: str) -> Result:
        """What `ask` returns. `what` is asked for, in the words of an error.

        Raises `Unavailable` (`vault_sealed`, `vault_unreachable`) after the last try, and at once what another try
        would not change: `Forbidden` (`vault_denied`), `Conflict` (`vault_refused`, `vault_missing`).
        """
        import hvac  # a fifth of a second, and only where Vault is used
        import requests

        client = hvac.Client(
            url=self._settings.address,
            token=self._token(),
            namespace=self._settings.namespace,
            verify=str(self._settings.ca_file) if self._settings.ca_file else True,
            timeout=self._settings.timeout,
        )
        for pause in (*PAUSES, None):
            try:
                return ask(client)
            except (hvac.exceptions.VaultError, requests.RequestException) as error:
                problem = self._translated(error, what)
                if pause is None or not isinstance(problem, Unavailable):
                    raise problem from error
            self._pause(pause)
        raise AssertionError("the last try returns or raises")

    def _token(self) -> str:
        if self._settings.token_file is not None:
            try:
                return self._settings.token_file.read_text().strip()
            except OSError as error:
                raise Forbidden(
                    f"Vault's token cannot be read: {error}",
                    code="vault_denied",
                    hint="ORCHESTRATOR_VAULT_TOKEN_FILE names the file; the platform's user must be able to read it.",
                ) from error
        if self._settings.token is None:
            raise Forbidden(
                "There is no token for Vault",
                code="vault_denied",
                hint="Set ORCHESTRATOR_VAULT_TOKEN_FILE, or ORCHESTRATOR_VAULT_TOKEN.",
            )
        return self._settings.token.get_secret_value()

    def _translated(self, error: Exception, what: str) -> Problem:
        from hvac import exceptions

        address = self._settings.address
        if isinstance(error, exceptions.VaultDown):
            return Unavailable(
                f"Vault at {address} is sealed or in standby",
                code="vault_sealed",
                hint="Unseal it (`vault status` says how it is), then try again. Nothing was lost.",
            )
        if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
            return Forbidden(
                f"Vault at {address} does not let our token use {what}",
                code="vault_denied",
                hint="Is the token still valid, and does its policy allow this? The operating guide has the policy.",
            )
        if isinstance(error, exceptions.InvalidPath):
            return Conflict(
                f"Vault at {address} has no {what}",
                code="vault_missing",
                hint="Make it in Vault, or correct ORCHESTRATOR_VAULT_* or the reference that names it.",
            )
        if isinstance(error, exceptions.InvalidRequest | exceptions.ParamValidationError):
            return Conflict(
                f"Vault at {address} refuses {what}", code="vault_refused", hint="Vault's audit log says why."
            )
        return Unavailable(
            f"Vault at {address} gave no answer: {type(error).__name__}",
            code="vault_unreachable",
            hint="Start it, or correct ORCHESTRATOR_VAULT_ADDRESS and ORCHESTRATOR_VAULT_CA_FILE. Nothing was lost.",
        )
