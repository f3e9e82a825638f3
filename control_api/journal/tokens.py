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
    """Signs and verifies. When the key is replaced, what the one before has signed lives on until it expires."""

    def __init__(self, key: bytes, *former: bytes, clock: Clock) -> None:
        self._clock = clock
        self.replace(key, *former)

    def replace(self, key: bytes, *former: bytes) -> None:
        """Sign with `key`; accept what `former` have signed as long as that may live."""
        self._keys = (key, *former)
        self._former_end = self._clock.now().timestamp() + LIFETIME

    def mint(self, identity: Identity, *, lifetime: float = LIFETIME) -> tuple[str, float]:
        """A token and when it expires, in seconds since the epoch."""
        expires = self._clock.now().timestamp() + lifetime
        claims = json.dumps({**asdict(identity), "audience": AUDIENCE, "expires": expires}).encode()
        return f"{_encode(claims)}.{_encode(_sign(self._keys[0], claims))}", expires

    def verify(self, token: str) -> Identity:
        """Whose token it is. Raises `Unauthenticated` (`journal_token_invalid`, `journal_token_expired`)."""
        try:
            claims, signature = (base64.b64decode(part + "==", altchars=b"-_") for part in token.split("."))
        except (ValueError, binascii.Error):  # not of this form at all
            raise _invalid() from None
        keys = self._keys if self._clock.now().timestamp() < self._former_end else self._keys[:1]
        if not any(hmac.compare_digest(signature, _sign(key, claims)) for key in keys):
            raise _invalid()
        values = json.loads(claims)
        if values.pop("audience") != AUDIENCE:
            raise _invalid()
        if values.pop("expires") <= self._clock.now().timestamp():
            raise Unauthenticated("The journal token has expired", code="journal_token_expired")
        return Identity(**values)


def _sign(key: bytes, claims: bytes) -> bytes:
    return hmac.digest(key, claims, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _invalid() -> Unauthenticated:
    return Unauthenticated("The journal token is not one of ours", code="journal_token_invalid")
