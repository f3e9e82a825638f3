"""Tokens of instances: short-lived proof of who speaks, for one purpose, signed with a key nobody else has."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass

from domain.clock import Clock
from orchestrator_runtime.contract.errors import Unauthenticated

AUDIENCE = "journal"
LIFETIME = 24 * 3600.0  # seconds; an instance gets a fresh one before


@dataclass(frozen=True, slots=True)
class Identity:
    """Which instance speaks, and for whom it works. `agent` is the agent's name."""

    organization: str
    agent: str
    revision: str
    instance: str


class Tokens:
    """Signs and verifies; `key` is derived from the master key for this purpose alone."""

    def __init__(self, key: bytes, *, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def mint(self, identity: Identity, *, lifetime: float = LIFETIME) -> tuple[str, float]:
        """A token and when it expires, in seconds since the epoch."""
        expires = self._clock.now().timestamp() + lifetime
        claims = json.dumps({**asdict(identity), "audience": AUDIENCE, "expires": expires}).encode()
        return f"{_encode(claims)}.{_encode(self._sign(claims))}", expires

    def verify(self, token: str) -> Identity:
        """Whose token it is. Raises `Unauthenticated` (`journal_token_invalid`, `journal_token_expired`)."""
        try:
            claims, signature = (base64.b64decode(part + "==", altchars=b"-_") for part in token.split("."))
        except (ValueError, binascii.Error):  # not of this form at all
            raise _invalid() from None
        if not hmac.compare_digest(signature, self._sign(claims)):
            raise _invalid()
        values = json.loads(claims)
        if values.pop("audience") != AUDIENCE:
            raise _invalid()
        if values.pop("expires") <= self._clock.now().timestamp():
            raise Unauthenticated("The journal token has expired", code="journal_token_expired")
        return Identity(**values)

    def _sign(self, claims: bytes) -> bytes:
        return hmac.digest(self._key, claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _invalid() -> Unauthenticated:
    return Unauthenticated("The journal token is not one of ours", code="journal_token_invalid")
