"""Values that are in Vault: read when an instance starts, and kept, so that a Vault that is away later stops none."""

from __future__ import annotations

import asyncio
import logging

from control_api.vault.kv import KeyValues, Reference
from domain.clock import Clock
from orchestrator_runtime.contract.errors import Conflict, Unavailable

logger = logging.getLogger("secrets")

FRESH = 30.0  # seconds a value is taken for what is in Vault


class OutsideValues:
    """By organization and reference. Without `values`, no reference can be used."""

    def __init__(self, values: KeyValues | None, *, clock: Clock) -> None:
        self._values = values
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[str, float]] = {}

    async def read(self, organization: str, reference: str) -> str:
        """The value, at most `FRESH` seconds old, or the last one that was read if Vault does not answer.

        Raises `Unprocessable` (`reference_invalid`), `Conflict` (`vault_not_set_up`), and what Vault's client raises.
        """
        parsed = Reference.parse(reference)
        if self._values is None:
            raise Conflict(
                f"{reference} is in Vault, and no Vault is set up",
                code="vault_not_set_up",
                hint="Whoever runs the platform sets ORCHESTRATOR_VAULT_ADDRESS and a token; see the operating guide.",
            )
        value, read_at = self._known.get((organization, reference), ("", None))
        if read_at is not None and self._clock.monotonic() - read_at < FRESH:
            return value
        try:
            fresh = await asyncio.to_thread(self._values.read, organization, parsed)
        except Unavailable as problem:
            if read_at is None:
                raise
            logger.warning("%s: the value that was read last is used (%s)", problem.detail, problem.code)
            return value
        self._known[organization, reference] = (fresh, self._clock.monotonic())
        return fresh
