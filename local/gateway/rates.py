"""How many requests a second an address, a credential and an organization may send. Pure but for its buckets."""

from __future__ import annotations

import math

from local.gateway.buckets import Buckets
from local.gateway.routes import Credential
from local.gateway.settings import Limits
from orchestrator_runtime.contract.errors import TooMany

BURST = 5.0  # seconds of its rate that whoever was quiet may send at once


class Rates:
    """A rate of 0 is no limit."""

    def __init__(self, limits: Limits) -> None:
        rates = {
            "address": limits.address_rate,
            "credential": limits.credential_rate,
            "organization": limits.organization_rate,
        }
        self._rates = rates
        self._buckets = {what: Buckets(rate, burst=max(1.0, rate * BURST)) for what, rate in rates.items() if rate}

    def check(self, address: str, credential: Credential | None, now: float) -> None:
        """Count one request. Raises `TooMany` (`rate_limited`), and then it counts nowhere that is asked later."""
        self._take("address", address, now)
        if credential is not None:
            self._take("credential", credential.digest, now)
            self._take("organization", credential.organization, now)

    def forget(self, now: float) -> None:
        for buckets in self._buckets.values():
            buckets.forget(now)

    def _take(self, what: str, key: str, now: float) -> None:
        buckets = self._buckets.get(what)
        if buckets is None:
            return
        wait = buckets.take(key, now)
        if wait:
            raise TooMany(
                f"This {what} may send {self._rates[what]:g} requests a second",
                code="rate_limited",
                hint="Send fewer, and wait as long as Retry-After says after this answer.",
                limit=what,
                per_second=self._rates[what],
                retry_after=math.ceil(wait),
            )
